"""Makes small model folders with random weights, in the shapes of the large ones that people choose.

Knows nothing of the package but where its English tokenizer lies. What it makes is real to sentence-transformers: only
the sizes are small and nothing was learnt. Import it behind `pytest.importorskip("sentence_transformers")`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from memos_mcp.backends.minilm import BUNDLED_FOLDER

CORPUS = (
    "我喜欢喝绿茶", "玛雅对花生过敏，不能吃什么？", "服务器中午重启", "上海的地铁几点关门", "绿茶要趁热喝",
    "green tea is drunk hot", "the server restarts at noon", "what must Maya not eat", "where does the train stop",
    "привет как дела", "поезд приходит в полдень", "مرحبا بالعالم", "안녕하세요 세계", "こんにちは世界",
)  # fmt: skip
IDEOGRAPHS = [chr(code) for code in range(0x4E00, 0xA000)]


def english() -> PreTrainedTokenizerFast:
    """The WordPiece vocabulary of an English model, as the built-in embedder has it."""
    tokenizer = Tokenizer.from_file(str(BUNDLED_FOLDER / "tokenizer.json"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]",
    )  # fmt: skip


def chinese() -> PreTrainedTokenizerFast:
    """A WordPiece vocabulary in which every ideograph is a token of its own, as Chinese BERT models have it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789，。？！", *IDEOGRAPHS]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["the", "tea", "green", "##ing", "##er"]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]",
    )  # fmt: skip


def multilingual() -> PreTrainedTokenizerFast:
    """A unigram vocabulary over many scripts with pieces of several characters, as XLM-R and bge-m3 have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400 + len(IDEOGRAPHS),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        unk_token="<unk>",
        initial_alphabet=IDEOGRAPHS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(CORPUS) * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", cls_token="<s>", sep_token="</s>",
        eos_token="</s>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def english_bytes() -> PreTrainedTokenizerFast:
    """A byte-level vocabulary learnt from English alone, as GPT-like models have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text in CORPUS if text.isascii()] * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", cls_token="<s>", sep_token="</s>",
        eos_token="</s>", pad_token="<pad>",
    )  # fmt: skip


def embedder_folder(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    shape: str = "bert",
    dimensions: int = 32,
    pooling: str = "mean",
    max_seq_length: int = 128,
    prompts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """A sentence-transformers folder: `shape` bert or xlm-roberta, `pooling` mean or cls."""
    torch.manual_seed(seed)
    model = (BertModel if shape == "bert" else XLMRobertaModel)(_config(shape, tokenizer, dimensions, 1))
    bare = folder.parent / f"{folder.name}-bare"
    _save(model, tokenizer, bare)
    transformer = Transformer(str(bare), max_seq_length=max_seq_length)
    modules = [transformer, Pooling(dimensions, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=dict(prompts or {})).save(
        str(folder), create_model_card=False
    )
    return folder


def cross_encoder_folder(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    shape: str = "bert",
    dimensions: int = 32,
    layers: int = 1,
    labels: int = 1,
    seed: int = 0,
) -> Path:
    """A folder of a sequence classifier over pairs, as rerankers are published."""
    torch.manual_seed(seed)
    config = _config(shape, tokenizer, dimensions, layers, num_labels=labels)
    kind = BertForSequenceClassification if shape == "bert" else XLMRobertaForSequenceClassification
    _save(kind(config), tokenizer, folder)
    return folder


def static_folder(folder: Path, tokenizer: PreTrainedTokenizerFast, *, dimensions: int = 16) -> Path:
    """A folder of token vectors alone, without a transformer: the fastest kind of embedder."""
    modules = [StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=dimensions)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def changed(folder: Path) -> None:
    """Change one number of the folder's weights, and nothing else."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    tensors[first].view(-1)[0] += 0.5
    save_file(tensors, path, metadata={"format": "pt"})


def edited(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def _config(shape: str, tokenizer: PreTrainedTokenizerFast, dimensions: int, layers: int, **given: Any) -> Any:
    kind = BertConfig if shape == "bert" else XLMRobertaConfig
    return kind(
        vocab_size=len(tokenizer), hidden_size=dimensions, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * dimensions, max_position_embeddings=520, pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # of the usual size, and every text would be like every other
        **given,
    )  # fmt: skip


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
