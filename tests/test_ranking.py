"""What speaks for a memory: its words, its day, who speaks, what was said beside it, and its session."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Person

from memos_mcp.plaintext.combiner import combine, fits, input_names, inputs
from memos_mcp.plaintext.evidence import NAMES, weigh
from memos_mcp.plaintext.facts import Row
from memos_mcp.plaintext.pool import look_up
from memos_mcp.plaintext.question import asked
from memos_mcp.plaintext.view import viewed

TODAY = "2026-03-01T12:00:00.000Z"


def turn(who: str, said: str) -> dict[str, str]:
    return {"role": "user", "name": who, "content": said}


@pytest.mark.parametrize(
    ("question", "day"),
    [
        ("Where did we walk on 5 May 2025?", "2025-05-05"),
        ("Where did we walk on May 6th?", "2025-05-06"),
        ("Where did we walk yesterday?", "2026-02-28"),
        ("我们5月7号去哪里散步 walk?", "2025-05-07"),
    ],
)
def test_a_day_in_the_question_finds_the_memory_of_that_day(ada: Person, question: str, day: str) -> None:
    days = ["2025-05-05", "2025-05-06", "2025-05-07", "2025-11-20", "2026-02-28"]
    kept = {one: ada.keep(f"We walk along the river, walk {i}", kind="event", time=one) for i, one in enumerate(days)}
    hit = ada.search(question)["hits"][0]
    assert hit["id"] == kept[day]
    assert hit["why"]["day"] == 1.0


def test_a_day_that_a_memory_mentions_counts_as_its_own(ada: Person) -> None:
    ada.keep("The boat race was fun", kind="event", time="2025-06-01")
    other = ada.keep("The boat race two weeks ago was fun, on 20 May 2025", kind="event", time="2025-06-03")
    assert ada.ids("Which boat race was on 20 May 2025?")[0] == other


def test_who_is_named_in_the_question_is_preferred_as_speaker(ada: Person) -> None:
    ada.add(messages=[turn("Bob", "My favourite dish is soup.")], session="one")
    ada.add(messages=[turn("Eve", "My favourite dish is soup.")], session="two")
    first = ada.search("What is Eve's favourite dish?")["hits"][0]
    assert first["why"]["speaker"] == 1.0


def test_an_answer_is_found_by_the_question_before_it(ada: Person) -> None:
    said = [turn("Bob", "Which instrument do you play?"), turn("Eve", "The cello, since I was six.")]
    ada.add(messages=said, session="one")
    for i in range(8):
        ada.add(messages=[turn("Bob", f"Lunch number {i} was late."), turn("Eve", "So it was.")], session=f"s{i}")
    texts = [hit["text"] for hit in ada.search("Which instrument does Eve play?", top_k=2)["hits"]]
    assert "The cello, since I was six." in texts


TEXTS = st.lists(st.text("ab 茶水5", max_size=12), max_size=12)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.text(max_size=20), st.booleans(), st.floats(0, 1))
def test_scores_are_numbers_between_0_and_1_whatever_is_asked(
    texts: list[str], question: str, meant: bool, trust: float
) -> None:
    rows = [Row(i + 1, "s" if i % 3 else None, TODAY, f"§1 @ab {text}") for i, text in enumerate(texts)]
    about = asked(question, TODAY)
    pool = look_up([viewed(rows, len(rows))], about, None).pool([])
    cosines = np.linspace(-1, 1, len(rows), dtype=np.float32) if meant else None
    evidence = weigh(pool, about, cosines, trust)
    assert evidence.columns.shape == (len(rows), len(NAMES))
    assert inputs(evidence).shape == (len(rows), len(input_names()))
    totals = combine(evidence, trust if meant else 0.0)
    scores = fits(evidence, totals, cosines, trust if meant else 0.0)
    assert totals.shape == scores.shape == (len(rows),)
    assert np.isfinite(evidence.columns).all()
    assert np.isfinite(totals).all()
    assert ((scores >= 0) & (scores <= 1)).all()
