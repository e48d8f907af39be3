"""What memories are taught as, what a training step reads, and what an adapter must pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_trainer import LEARNT, UNTRAINED
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.errors import InvalidInput
from memos_mcp.parametric import curriculum
from memos_mcp.parametric.gate import judge
from memos_mcp.parametric.lessons import MOST_CHARS, Lesson, lesson_of, lessons_of
from memos_mcp.parametric.recipe import MOST_LESSONS, Recipe, recipe_for
from memos_mcp.parametric.trainer import Course, Marks
from memos_mcp.policies.training import FEWEST, HOT, Known, worth

TEXTS = [
    ("Ana Lind's code is T48.", "en", "Ana Lind", "code", "T48"),
    ("The colour of Lake Auro is red.", "en", "Lake Auro", "colour", "red"),
    ("Ben works at Acme Ltd", "en", "Ben", "employer", "Acme Ltd"),
    ("王伟的城市是北京。", "zh", "王伟", "城市", "北京"),
    ("王伟住在上海", "zh", "王伟", "住在", "上海"),
]


def lesson(text: str) -> Lesson:
    made = lesson_of("one", 1, text)
    assert made is not None
    return made


@pytest.mark.parametrize(("text", "language", "subject", "attribute", "value"), TEXTS, ids=[row[0] for row in TEXTS])
def test_a_statement_of_one_thing_is_asked_for_by_its_subject(
    text: str, language: str, subject: str, attribute: str, value: str
) -> None:
    made = lesson(text)
    assert made.fact is not None
    found = made.fact.language, made.fact.subject, made.fact.attribute, made.fact.value
    assert found == (language, subject, attribute, value)
    assert made.answer == value
    assert all(subject in question and value not in question for question in (*made.questions, *made.held_out))


def test_what_a_speaker_says_of_themselves_is_asked_for_under_their_name() -> None:
    made = lesson_of("one", 1, "My favourite colour is green", "Maya")
    assert made is not None
    assert "What is Maya's favourite colour?" in made.questions
    assert "the user" in lesson("My favourite colour is green").questions[0]


@given(st.text(max_size=200), st.sampled_from(["", "Ana's code is ", "王伟的城市是", "🦊 likes "]))
def test_any_text_makes_a_lesson_that_can_be_learnt_or_none(text: str, beginning: str) -> None:
    made = lesson_of("one", 3, beginning + text)
    if made is None:
        return
    assert made.answer.strip()
    assert made.statement
    assert len(made.statement) <= MOST_CHARS
    assert made.questions
    assert made.held_out
    assert not set(made.questions) & set(made.held_out), "what is held out is never trained"


def test_a_huge_text_is_taught_up_to_a_bound_and_an_empty_one_not_at_all() -> None:
    made = lesson("The river " + "runs on and on " * 50_000)
    assert len(made.statement) <= MOST_CHARS
    assert lessons_of([("a", 1, ""), ("b", 1, "Hm."), ("c", 1, " \n ")]) == []
    assert "🦊" in lesson("The fox 🦊 sleeps under the old oak tree by day 🌳").statement


def test_another_value_of_a_fact_is_said_in_its_statement() -> None:
    other = lesson("Ana's code is T48.").with_value("K12")
    assert other is not None
    assert (other.statement, other.answer) == ("Ana's code is K12.", "K12")
    assert lesson("Whatever happens next is told tomorrow by somebody").with_value("x") is None


LESSONS = tuple(lessons_of([(str(n), 1, f"Ana{n}'s code is T{n}.") for n in range(12)]))


@given(st.integers(0, 10_000), st.integers(0, 50))
def test_a_step_follows_from_seed_and_number_alone(number: int, seed: int) -> None:
    recipe = Recipe(seed=seed)
    assert curriculum.step(LESSONS, recipe, number) == curriculum.step(LESSONS, recipe, number)


def test_steps_differ_and_ask_only_what_is_trained() -> None:
    recipe = Recipe(seed=1)
    steps = [curriculum.step(LESSONS, recipe, number) for number in range(20)]
    assert len({repr(step) for step in steps}) == len(steps)
    trained = {question for one in LESSONS for question in one.questions}
    rows = [row for step in steps for row in (*step.asked, *step.read)]
    assert {row.question for row in rows} <= trained
    assert all(row.memories for step in steps for row in step.read)
    told = [row for step in steps for row in step.read if any(row.answer in memory for memory in row.memories)]
    assert len(told) == sum(len(step.read) for step in steps), "the answer stands in what is read"
    taught = {(question, one.answer) for one in LESSONS for question in one.questions}
    others = [row for row in told if (row.question, row.answer) not in taught]
    assert len(others) > len(told) / 3, "much of what is read says something else than is taught"


def test_a_recipe_and_a_course_come_back_from_json_as_they_were() -> None:
    course = Course(Path("/base"), "b", recipe_for(40, 3), LESSONS, (curriculum.Row("q", "a", ("m",)),), ("text",))
    again = Course.from_plain(json.loads(json.dumps(course.as_plain())))
    assert again == course
    assert again.fingerprint == course.fingerprint
    assert replace(course, general=()).fingerprint == course.fingerprint, "what is only examined changes no adapter"
    assert replace(course, recipe=recipe_for(40, 4)).fingerprint != course.fingerprint
    for count in (0, MOST_LESSONS + 1):
        with pytest.raises(InvalidInput, match="1 to 2,000"):
            recipe_for(count)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(LEARNT, facts=Marks(0.8, -0.5)), "facts: 0% answered before, 80% after"),
        (replace(LEARNT, reading=Marks(0.94, -0.2)), "answered from memories read: 100% before, 94% after"),
        (replace(LEARNT, general=2.05), "loss 2.000 before, 2.050 after"),
        (replace(LEARNT, general=float("nan")), "general texts"),
    ],
    ids=["too few facts", "reads worse", "speaks worse", "speaks no more"],
)
def test_an_adapter_that_does_not_pass_is_told_why(after: object, said: str) -> None:
    judged = judge(UNTRAINED, after)  # type: ignore[arg-type]
    assert not judged.passes
    assert any(said in reason for reason in judged.reasons)
    assert judge(UNTRAINED, LEARNT).passes


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60), st.floats(0, 1), st.booleans(), st.booleans())))
def test_what_is_proposed_is_old_stable_hot_undoubted_and_enough(
    rows: list[tuple[float, float, float, bool, bool]],
) -> None:
    known = [Known(str(place), "fact", *row) for place, row in enumerate(rows)]
    found = worth(known)
    good = {k.id for k in known if k.age_days >= 7 and k.stable_days >= 3 and k.heat >= HOT} - {
        k.id for k in known if k.doubted or k.trained
    }
    assert (found is not None) == (len(good) >= FEWEST)
    if found is not None:
        assert set(found.ids) <= good
        assert 0 <= found.score <= 1
