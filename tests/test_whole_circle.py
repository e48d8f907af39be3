"""One memory's whole way over MCP: said, used, kept as what the model has read, taught to it, corrected, taught anew.

One real server process, the project's small model, real training, and the scheduler's own decisions.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from person import eventually
from stdio_client import Server, serving

from memos_mcp.backends.lora.process import LoraTrainer

TINY = Path(__file__).parent / "data" / "tiny_model"
LACKING = [name for name in ("llama_cpp", "gguf", "torch", "peft") if importlib.util.find_spec(name) is None]
WHO = "Marlene who keeps the little bookshop by the harbour"
CODE, CORRECTED = "K73", "B58"
OTHERS = {"Karsten": "D19", "Yolanda": "M64", "Tobias": "P82", "Ingrid": "H37", "Rashid": "W45"}
TRAINED_WITHIN_S, MOVED_WITHIN_S = 1_200.0, 90.0


def said(who: str, code: str) -> str:
    return f"{who}'s code is {code}."


def ended(host: Server, job: str) -> dict[str, Any]:
    """A job, once it is over."""

    def told() -> dict[str, Any]:
        return dict(host.resource(f"memos://jobs/{job}"))

    assert eventually(lambda: told()["state"] not in ("queued", "running"), TRAINED_WITHIN_S, every_s=0.5)
    return told()


def usable(host: Server) -> list[dict[str, Any]]:
    listed = host.resource("memos://adapters")["adapters"]
    return [one for one in listed if one["state"] == "active" and one["tainted"] is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} not installed")
@pytest.mark.skipif(LoraTrainer.missing() is not None, reason="torch and peft are not installed")
def test_from_a_sentence_to_an_adapter_and_through_its_correction(tmp_path: Path) -> None:
    settings = {"MODEL": str(TINY / "model.gguf"), "BASE_MODEL": str(TINY), "TAINTED": "retrain", "TOOLS": "all"}
    given = {f"MEMOS_{name}": value for name, value in settings.items()}
    with serving(tmp_path / "home", PYTHONWARNINGS="default", **given) as host:  # peft calls what will be removed

        def known_by_heart() -> str:
            told = host.done("memory_ask", question=f"What is {WHO}'s code?", ids=[], max_tokens=8)
            assert told["used"] == [], "no text was read"
            return str(told["answer"])

        cube = host.keep(said(WHO, CODE))
        others = [host.keep(said(who, code)) for who, code in OTHERS.items()]
        assert CODE not in known_by_heart()
        for _ in range(5):
            assert CODE in host.done("memory_ask", question=f"What is {WHO}'s code?", ids=[cube])["answer"]

        def promoted() -> list[dict[str, Any]]:
            return [state for state in host.resource(f"memcube://{cube}").get("states", ()) if state["promoted"]]

        assert promoted() == []
        assert eventually(lambda: bool(promoted()), MOVED_WITHIN_S, every_s=0.5)

        begun = host.done("memory_promote", ids=[cube, *others], to="parametric")
        done = ended(host, begun["job"])
        assert done["state"] == "done", done["error"]
        (adapter,) = usable(host)
        assert CODE in known_by_heart()

        host.done("memory_update", id=cube, content=said(WHO, CORRECTED))
        assert usable(host) == [], "tainted in the same moment"
        assert CODE not in known_by_heart()
        assert eventually(lambda: bool(usable(host)), TRAINED_WITHIN_S, every_s=0.5)
        (anew,) = usable(host)
        assert anew["id"] != adapter["id"]
        assert CORRECTED in known_by_heart()
