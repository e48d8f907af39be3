"""Reranking: which hits are shown, how scores are blended, and what a search does while the reranker is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeReranker
from hypothesis import given
from hypothesis import strategies as st
from person import Person, eventually, settings_for

from memos_mcp.errors import InvalidInput, NotReady, RerankerUnavailable
from memos_mcp.kernel import Kernel
from memos_mcp.maintenance import store_checks
from memos_mcp.maintenance.doctor import doctor
from memos_mcp.plaintext.rerank import BYTES, LEAST, MOST, WEIGHT, blend, shown
from memos_mcp.plaintext.reranker import RerankerSlot
from memos_mcp.settings import load, read_config, write_config

CHOSEN = "cross-encoder:fake"
shares = st.floats(0.0, 1.0)
log_odds = st.floats(-12.0, 12.0)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Scores of hits, best first, and what a reranker says of the first of them."""
    given_scores = sorted(draw(st.lists(shares, max_size=60)), reverse=True)
    said = draw(st.lists(log_odds, max_size=len(given_scores)))
    return given_scores, said


@given(ranked())
def test_a_blend_keeps_every_hit_once_best_first_and_within_bounds(case: tuple[list[float], list[float]]) -> None:
    scores, said = case
    places = blend(scores, said)
    assert sorted(place.position for place in places) == list(range(len(scores)))
    assert all(0.0 <= place.score <= 1.0 + 1e-9 for place in places)
    ordered = [place.score for place in places]
    assert all(before >= after - 1e-9 for before, after in pairwise(ordered))
    judged = [place.relevance is not None for place in places]
    assert judged == [True] * len(said) + [False] * (len(scores) - len(said)), "what was not shown stays below"
    assert all(0.0 <= place.relevance <= 1.0 for place in places if place.relevance is not None)


@given(ranked(), st.floats(0.5, 5.0))
def test_a_better_opinion_never_lowers_a_hit(case: tuple[list[float], list[float]], more: float) -> None:
    scores, said = case
    if not said:
        return
    before = [place.position for place in blend(scores, said)].index(len(said) - 1)
    after = [place.position for place in blend(scores, [*said[:-1], said[-1] + more])].index(len(said) - 1)
    assert after <= before


@given(st.lists(shares, max_size=40), st.floats(-12.0, 12.0))
def test_a_reranker_that_finds_all_alike_changes_nothing(scores: list[float], said: float) -> None:
    scores = sorted(scores, reverse=True)
    assert [place.position for place in blend(scores, [said] * len(scores))] == list(range(len(scores)))


def test_small_differences_of_opinion_weigh_less_than_large_ones() -> None:
    unsure, sure = blend([1.0, 0.7], [-0.1, 0.1]), blend([1.0, 0.7], [-5.0, 5.0])
    assert [place.position for place in unsure] == [0, 1]
    assert [place.position for place in sure] == [1, 0]
    assert sure[0].score == pytest.approx(0.7 * (1 - WEIGHT) + WEIGHT)
    assert sure[0].relevance == pytest.approx(0.9933, abs=1e-4)


@given(st.lists(st.text(max_size=900), max_size=70))
def test_what_is_shown_is_the_beginning_of_the_best_hits_within_bounds(texts: list[str]) -> None:
    parts = shown(texts)
    assert len(parts) >= min(len(texts), LEAST)
    assert len(parts) <= MOST
    assert sum(len(part.encode()) for part in parts) <= BYTES
    assert all(text.startswith(part) for text, part in zip(texts, parts, strict=False) if text.isascii())


def test_short_texts_are_shown_in_larger_number_than_long_ones_in_chinese_too() -> None:
    assert len(shown(["short"] * 100)) == MOST
    assert len(shown(["x" * 10_000] * 100)) == LEAST
    long = shown(["汉字" * 5_000] * 100)
    assert len(long) == LEAST
    assert set("".join(long)) == {"汉", "字"}, "no character is cut in half"
    assert shown(["\ud800 half"]) == ["? half"]


# --- the slot


def slot(reranker: FakeReranker) -> RerankerSlot:
    made = RerankerSlot(CHOSEN, lambda _: reranker)
    made.get(10.0)
    return made


def test_nothing_is_loaded_before_it_is_asked_for_and_then_once() -> None:
    made: list[str] = []
    gate = threading.Event()

    def make(name: str) -> FakeReranker:
        made.append(name)
        gate.wait(10.0)
        return FakeReranker()

    waiting = RerankerSlot(CHOSEN, make)
    assert (waiting.chosen, made) == (True, [])
    for _ in range(3):
        with pytest.raises(NotReady, match="still loading"):
            waiting.scores("q", ["a"])
    gate.set()
    assert waiting.get(10.0).identity == "fake"
    assert made == [CHOSEN]
    waiting.close()


def test_a_slot_without_a_reranker_says_how_to_choose_one() -> None:
    none = RerankerSlot("none", lambda _: FakeReranker())
    assert not none.chosen
    with pytest.raises(RerankerUnavailable, match="memos-mcp config reranker"):
        none.get(0.0)


def test_texts_are_scored_in_parts_and_come_back_in_order() -> None:
    reranker = FakeReranker()
    made = slot(reranker)
    texts = [f"tea {'green ' * (n % 2)}{n}" for n in range(11)]
    assert made.scores("green tea", texts).tolist() == FakeReranker().scores("green tea", texts).tolist()
    assert made.scores("green tea", []).shape == (0,)
    made.close()


def test_a_reranker_that_takes_too_long_is_given_up_and_its_work_ends_after_the_part() -> None:
    gate, reranker = threading.Event(), FakeReranker(before=lambda: gate.wait(10.0) and None)
    made = slot(reranker)
    with pytest.raises(NotReady, match=r"took longer than 0\.05 s"):
        made.scores("q", ["text"] * 40, within_s=0.05)
    with pytest.raises(NotReady, match="took longer"):
        made.scores("q", ["behind it"], within_s=0.05)
    gate.set()
    assert made.scores("q", ["after it"]).shape == (1,)
    assert reranker.seen == ["text"] * reranker.at_a_time + ["after it"], "what nobody waits for any more is not scored"
    made.close()


# --- searches


@pytest.fixture
def reranker() -> FakeReranker:
    return FakeReranker(favour="umbrella")


@pytest.fixture
def reranking(open_kernel: Callable[..., Kernel], home: Path, reranker: FakeReranker) -> Kernel:
    """A store whose reranker is loaded."""
    write_config(home, "reranker", CHOSEN)
    kernel = open_kernel(reranker=lambda _: reranker)
    kernel.api.parts.reranker.get(10.0)
    return kernel


def rain(kernel: Kernel) -> tuple[Person, list[str]]:
    """Memories about rain, of which the last is found last."""
    ada = Person(kernel.api, "ada")
    texts = [f"The rain in march filled barrel number {n}" for n in range(12)] + ["Bring the umbrella"]
    return ada, [ada.keep(text) for text in texts]


def test_the_reranker_brings_up_what_lay_below_the_hits_that_were_asked_for(
    reranking: Kernel, reranker: FakeReranker
) -> None:
    ada, cubes = rain(reranking)
    result = ada.search("rain in march barrel", top_k=3)
    assert "degraded" not in result
    assert result["hits"][0]["id"] == cubes[-1]
    assert result["hits"][0]["why"]["rerank"] == pytest.approx(0.9999, abs=1e-3)
    assert [hit["score"] for hit in result["hits"]] == sorted((h["score"] for h in result["hits"]), reverse=True)
    assert len(result["hits"]) == 3
    assert len(reranker.seen) == 13, "all were shown, not only the three"


def test_as_of_and_neighbours_go_through_the_reranker_too(reranking: Kernel) -> None:
    ada = Person(reranking.api, "ada")
    ada.keep("The rain filled the barrel", session="s")
    last = ada.keep("Bring the umbrella against rain", session="s")
    then = reranking.api.parts.stamp()
    ada.update(last, content="Bring the umbrella, or a coat, against rain")
    (hit,) = ada.search("rain", as_of=then, top_k=1)["hits"]
    assert (hit["id"], hit["why"]["rerank"] > 0.9) == (last, True)
    (hit,) = ada.search("rain", around=1, top_k=1)["hits"]
    assert hit["text"].startswith("The rain filled the barrel\n")


def test_a_memory_whose_text_is_the_question_stays_first(reranking: Kernel) -> None:
    ada, cubes = rain(reranking)
    hits = ada.search("The rain in march filled barrel number 7", top_k=3)["hits"]
    assert [hit["id"] for hit in hits[:2]] == [cubes[7], cubes[-1]]
    assert "rerank" not in hits[0]["why"]


def test_without_a_reranker_no_hit_speaks_of_one(kernel: Kernel) -> None:
    ada, cubes = rain(kernel)
    result = ada.search("rain in march barrel", top_k=3)
    assert "degraded" not in result
    assert all("rerank" not in hit["why"] for hit in result["hits"])
    assert cubes[-1] not in [hit["id"] for hit in result["hits"]]


def test_reading_by_id_asks_no_reranker(reranking: Kernel, reranker: FakeReranker) -> None:
    ada, cubes = rain(reranking)
    assert "rerank" not in ada.search(ids=[cubes[0]])["hits"][0]["why"]
    assert reranker.seen == []


def failing(name: str) -> FakeReranker:
    raise RerankerUnavailable(f"The model of {name} is not there: give its folder.")


def test_a_reranker_that_cannot_be_loaded_leaves_the_order_and_is_named_in_every_answer(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    write_config(home, "reranker", CHOSEN)
    kernel = open_kernel(reranker=failing)
    ada, _ = rain(kernel)
    assert eventually(lambda: "not there" in ada.search("rain in march barrel").get("degraded", ""))
    result = ada.search("rain in march barrel")
    assert result["degraded"].startswith("Hits are in their order before reranking: ")
    assert len(result["hits"]) == 5


def test_a_reranker_that_fails_when_asked_leaves_the_order(reranking: Kernel, reranker: FakeReranker) -> None:
    ada, cubes = rain(reranking)
    reranker.down = True
    result = ada.search("rain in march barrel", top_k=4)
    assert "start it" in result["degraded"]
    assert cubes[-1] not in [hit["id"] for hit in result["hits"]]
    assert len(result["hits"]) == 4


def test_while_it_loads_searches_answer_without_it_and_say_so(
    open_kernel: Callable[..., Kernel], home: Path, reranker: FakeReranker
) -> None:
    write_config(home, "reranker", CHOSEN)
    gate = threading.Event()

    def make(_: str) -> FakeReranker:
        gate.wait(10.0)
        return reranker

    kernel = open_kernel(reranker=make)
    ada, cubes = rain(kernel)
    result = ada.search("rain in march barrel")
    assert "The reranker is still loading" in result["degraded"]
    assert len(result["hits"]) == 5
    gate.set()
    kernel.api.parts.reranker.get(10.0)
    assert ada.search("rain in march barrel")["hits"][0]["id"] == cubes[-1]


def test_a_memory_purged_while_it_is_reranked_is_no_hit(reranking: Kernel, reranker: FakeReranker) -> None:
    ada, cubes = rain(reranking)
    purged: list[Any] = []

    def purge() -> None:
        if not purged:
            purged.append(True)
            ada.forget(cubes[-1], mode="purge")

    reranker.before = purge
    found = ada.ids("rain in march barrel", top_k=3)
    assert purged
    assert cubes[-1] not in found


def test_changing_the_reranker_embeds_nothing_anew(
    open_kernel: Callable[..., Kernel], home: Path, reranker: FakeReranker, embedder: Any
) -> None:
    kernel = open_kernel()
    rain(kernel)
    kernel.close()
    before = embedder.calls
    write_config(home, "reranker", CHOSEN)
    again = open_kernel(reranker=lambda _: reranker)
    again.api.parts.reranker.get(10.0)
    assert Person(again.api, "ada").search("rain in march barrel")["hits"][0]["text"] == "Bring the umbrella"
    assert embedder.calls == before


# --- the setting


@pytest.mark.parametrize("value", ["", "cross-encoder:", "cross-encoder: ", "bge", "openai:x", "cross-encoder:a\0b"])
def test_a_reranker_that_cannot_be_is_refused_with_what_can(home: Path, value: str) -> None:
    with pytest.raises(InvalidInput, match="none or cross-encoder:NAME-OR-PATH"):
        write_config(home, "reranker", value)
    assert read_config(home) == {}


@pytest.mark.parametrize("folder", ["./model", "../model", "models/of/mine", "~/nowhere-at-all", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_or_relative_is_refused_before_it_is_kept(home: Path, folder: str) -> None:
    with pytest.raises(InvalidInput, match=r"whole path|is not there"):
        write_config(home, "reranker", f"cross-encoder:{folder}")
    with pytest.raises(InvalidInput, match=r"whole path|is not there"):
        load({"home": str(home)}, env={"MEMOS_RERANKER": f"cross-encoder:{folder}"})
    assert read_config(home) == {}


def test_a_wish_for_another_reranker_is_told_and_not_applied(home: Path) -> None:
    write_config(home, "reranker", CHOSEN)
    (home / "ledger.db").touch()
    settings = load({"home": str(home)}, env={"MEMOS_RERANKER": "none"})
    assert (settings.reranker, dict(settings.wishes)) == (CHOSEN, {"reranker": "none"})
    assert load({"home": str(home)}, env={"MEMOS_RERANKER": CHOSEN}).wishes == {}


def test_the_doctor_has_the_reranker_score_a_pair_and_says_what_is_wrong(
    reranking: Kernel, reranker: FakeReranker
) -> None:
    checks = {check.name: check for check in store_checks.of_running(reranking)}
    assert checks["reranker"].status == "ok"
    assert "cross-encoder:fake (fake) answers" in checks["reranker"].said
    reranker.down = True
    checks = {check.name: check for check in store_checks.of_running(reranking)}
    assert checks["reranker"].status == "warn", "searches go on"
    assert "config reranker none" in (checks["reranker"].next or "")


def test_the_doctor_shows_the_setting_and_where_it_came_from(home: Path) -> None:
    write_config(home, "reranker", CHOSEN)
    checks = {check.name: check for check in doctor(settings_for(home))}
    assert checks["setting reranker"].said == f"{CHOSEN} (config.toml)."
    (home / "config.toml").unlink()
    checks = {check.name: check for check in doctor(settings_for(home))}
    assert checks["setting reranker"].said == "none (default)."
