"""The verb ask where a server answers: what is sent, what stays the same, conversations, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from fake_engine import FakeEngine
from person import LONG, Person, settings_for
from sqlalchemy import text
from stdio_client import serving

from memos_mcp.activation.conversations import ConversationFull
from memos_mcp.activation.transcripts import MOST
from memos_mcp.context.orders import Orders
from memos_mcp.errors import Conflict, ContextTooLong, EngineUnavailable, InvalidInput, ModelUnavailable, NotFound
from memos_mcp.kernel import Kernel, make_server
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.results import AskResult
from memos_mcp.settings import write_config

GATE = f"The gate of the mill is green {LONG}"
QUESTION = "What colour is the gate of the mill?"


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with ChatServer() as opened:
        opened.pieces = ["Gre", "en"]
        yield opened


@pytest.fixture
def opened(open_kernel: Callable[..., Kernel], home: Path, chat: ChatServer) -> Callable[[], Kernel]:
    """Opens the store with a server behind it, through the settings, as the kernel does."""
    settings = settings_for(home, model=f"openai:small@{chat.url}")
    return lambda: open_kernel(server=lambda _: make_server(settings))


@pytest.fixture
def kernel(opened: Callable[[], Kernel]) -> Kernel:
    return opened()


def sent(chat: ChatServer, place: int = -1) -> list[tuple[str, str]]:
    """Roles and texts of a request, in order."""
    return [(message["role"], message["content"]) for message in chat.asked[place]["messages"]]


def prefixes(chat: ChatServer) -> list[str]:
    return [sent(chat, place)[0][1] for place in range(len(chat.asked))]


def hows(told: AskResult) -> dict[str, str]:
    return {cube["id"]: cube["how"] for cube in told["used"]}


# --- what is sent


def test_the_memories_stand_in_the_system_message_and_the_question_alone_behind_it(
    ada: Person, chat: ChatServer
) -> None:
    cube = ada.keep(GATE)
    chat.usage = {"prompt_tokens": 80, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 64}}
    told = ada.ask(QUESTION)
    assert told["answer"] == "Green"
    assert told["used"] == [{"id": cube, "version": 1, "how": "prefix"}]
    assert (told["prompt_tokens"], told["cached_tokens"]) == (80, 64)
    assert told["timing"]["total_s"] >= told["timing"]["first_token_s"] > 0
    ((system, prefix), (user, question)) = sent(chat)
    assert (system, user, question) == ("system", "user", QUESTION)
    assert GATE in prefix
    assert "degraded" not in told


def test_the_prefix_stays_the_same_from_question_to_question_and_grows_at_its_end(
    ada: Person, chat: ChatServer
) -> None:
    for n in range(6):
        ada.keep(f"The gate {n} of the mill was painted in the year 19{n}0 {LONG}")
    ada.ask("When was the gate 2 of the mill painted?")
    ada.ask("When was the gate 3 of the mill painted?")
    ada.keep(f"The chimney of the mill was swept in May {LONG}")
    for _ in range(3):
        ada.ask("When was the chimney of the mill swept?")
    found = prefixes(chat)
    assert found[0] == found[1]
    assert found[2] == found[3] == found[4]
    assert found[2].startswith(found[0])
    assert "chimney" in found[2].removeprefix(found[0])


def test_a_memory_that_changed_is_corrected_behind_the_prefix(ada: Person, chat: ChatServer) -> None:
    cubes = [ada.keep(f"The gate {n} of the mill is green {LONG}") for n in range(4)]
    ada.ask(QUESTION)
    ada.update(cubes[1], content=f"The gate 1 of the mill is blue {LONG}")
    told = ada.ask(QUESTION)
    assert prefixes(chat)[1].startswith(prefixes(chat)[0])
    assert "] now " in sent(chat)[-1][1] or "] now " in prefixes(chat)[1]
    assert {cube["id"]: cube["version"] for cube in told["used"]}[cubes[1]] == 2


def test_a_memory_that_was_forgotten_is_sent_no_more(ada: Person, chat: ChatServer) -> None:
    kept, gone = ada.keep(GATE), ada.keep(f"The gate of the mill has a brass bell {LONG}")
    assert set(hows(ada.ask(QUESTION))) == {kept, gone}
    ada.forget(gone)
    assert set(hows(ada.ask(QUESTION))) == {kept}
    assert "brass" not in str(chat.asked[-1])


def test_named_memories_stand_alone_and_a_growing_set_goes_on_with_its_order(ada: Person, chat: ChatServer) -> None:
    first, second, third = (ada.keep(f"The gate {n} of the mill is green {LONG}") for n in range(3))
    told = ada.ask(QUESTION, ids=[third, first])
    assert hows(told) == {first: "prefix", third: "prefix"}
    ada.ask(QUESTION, ids=[first, third])
    ada.ask(QUESTION, ids=[first, second, third])
    ada.ask(QUESTION, ids=[third, second, first])
    found = prefixes(chat)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[2].startswith(found[0])
    assert "gate 1" not in found[0]
    ada.ask(QUESTION, ids=[second])
    assert "gate 0" not in prefixes(chat)[-1]


def test_secret_memories_are_sent_to_no_server(ada: Person, chat: ChatServer) -> None:
    cube = ada.keep(f"The gate of the mill opens with 4711 {LONG}")
    ada.ask(QUESTION, session="talk")
    ada.update(cube, sensitivity="secret")
    for session in (None, "talk", "other"):
        assert ada.ask(QUESTION, session=session)["used"] == []
        with pytest.raises(InvalidInput, match=f"{cube} is secret, and secrets go to no server"):
            ada.ask(QUESTION, ids=[cube], session=session)
    assert all("4711" not in str(asked) for asked in chat.asked[1:])


def test_nothing_can_be_mounted_on_a_model_that_runs_elsewhere(ada: Person, chat: ChatServer) -> None:
    cube = ada.keep("The lamp is red")
    with pytest.raises(InvalidInput, match="leave out adapters"):
        ada.ask("Which colour has the lamp?", ids=[cube], adapters=[{"id": cube, "weight": 1.0}])


def test_only_what_the_caller_may_read_is_sent(ada: Person, bob: Person, chat: ChatServer) -> None:
    cube = ada.keep(GATE)
    with pytest.raises(NotFound):
        bob.ask(QUESTION, ids=[cube])
    assert bob.ask(QUESTION)["used"] == []
    assert "green" not in str(chat.asked)


def test_the_key_of_the_store_goes_to_the_server(
    home: Path, chat: ChatServer, open_kernel: Callable[..., Kernel]
) -> None:
    write_config(home, "model_api_key", "sk-7")
    settings = settings_for(home, model=f"openai:{chat.url}")
    ada = Person(open_kernel(server=lambda _: make_server(settings)).api, "ada")
    ada.ask("Hello?")
    assert chat.keys == ["Bearer sk-7"]
    assert chat.asked[0]["model"] == "first-model"


def test_a_server_with_little_room_gets_a_small_block_and_named_memories_must_fit(
    ada: Person, chat: ChatServer
) -> None:
    chat.models = [{"id": "small", "max_model_len": 900}]
    cubes = [ada.keep(f"The gate {n} of the mill is green {LONG} {LONG} {LONG}") for n in range(40)]
    assert 0 < len(ada.ask(QUESTION)["used"]) < 15
    with pytest.raises(InvalidInput, match="no room in the 900 tokens"):
        ada.ask(QUESTION, ids=cubes)


# --- what goes wrong


@pytest.mark.parametrize("given", [{}, {"session": "talk"}, {"ids": True}])
def test_what_the_server_cannot_do_is_said_and_the_next_question_goes_on(
    ada: Person, chat: ChatServer, given: dict[str, Any]
) -> None:
    cube = ada.keep(GATE)
    given = {"ids": [cube]} if "ids" in given else given
    ada.ask(QUESTION, **given)
    for status, body, said in (
        (401, b"{}", "config model_api_key"), (500, b"", "500"), (200, b"data: {nonsense", "JSON"),
        (200, b'data: {"choices": [{"delta": {"content": "Gr"}}]}\n\n', "nothing of it is kept"),
    ):  # fmt: skip
        chat.status, chat.body = status, body
        with pytest.raises(ModelUnavailable, match=said):
            ada.ask(QUESTION, **given)
    chat.status, chat.body = 400, b'{"error": {"message": "exceeds the available context size"}}'
    with pytest.raises((ContextTooLong, ConversationFull)):
        ada.ask(QUESTION, **given)
    chat.status, chat.body = 200, b""
    assert ada.ask(QUESTION, **given)["answer"] == "Green"
    if "session" in given:
        assert len(sent(chat)) == 4, "only the answers that came whole are part of it"


def test_a_server_that_is_not_there_leaves_every_other_verb_alone(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    settings = settings_for(home, model="openai:small@http://127.0.0.1:9/v1")
    ada = Person(open_kernel(server=lambda _: make_server(settings)).api, "ada")
    cube = ada.keep(GATE)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        ada.ask(QUESTION)
    assert ada.ids("gate") == [cube]
    ada.forget(cube, mode="purge")


def test_a_name_that_is_no_servers_is_said_by_the_verb_and_stops_nothing_else(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    write_config(home, "space", "personal")
    with (home / "config.toml").open("a", encoding="utf-8") as file:
        file.write('model = "openai:nowhere"\n')
    settings = settings_for(home)
    with pytest.raises(InvalidInput, match=r"model from the command.*MODEL@URL"):
        write_config(home, "model", "openai:nowhere")
    ada = Person(open_kernel(server=lambda _: make_server(settings)).api, "ada")
    ada.keep(GATE)
    with pytest.raises(ModelUnavailable, match="is not openai:MODEL@URL"):
        ada.ask(QUESTION)


def test_an_answer_that_was_cut_short_says_so(ada: Person, chat: ChatServer) -> None:
    for finish, said in (("length", "max_tokens"), ("content_filter", "ended the answer early: content_filter")):
        chat.finish = finish
        assert said in ada.ask(QUESTION)["degraded"]


@pytest.mark.parametrize("given", [{}, {"session": "talk"}])
def test_an_answer_from_a_memory_that_is_changed_meanwhile_is_not_given(
    ada: Person, chat: ChatServer, given: dict[str, Any]
) -> None:
    cube = ada.keep(GATE)
    other = ada.keep("Cellos have four strings")
    chat.before = lambda: ada.update(other, importance=0.9)
    ada.ask(QUESTION, ids=[cube], **given)
    chat.before = lambda: ada.forget(cube)
    with pytest.raises(Conflict, match="changed while the answer was made"):
        ada.ask(QUESTION, ids=[cube], **given)
    chat.before = lambda: None
    told = ada.ask(QUESTION, **given)
    assert cube not in hows(told)
    assert "green" not in str(chat.asked[-1])


def test_promoting_to_the_state_of_a_server_says_whose_it_is(ada: Person) -> None:
    cube = ada.keep(GATE)
    with pytest.raises(EngineUnavailable, match="that server's own"):
        ada.promote(cube)
    assert ada.promote(cube, to="plaintext") == {"moved": [], "op": None}
    assert ada.promote(cube, to="archive")["moved"] == [cube]


def test_the_doctor_names_the_model_that_answers_and_says_why_one_does_not(kernel: Kernel, chat: ChatServer) -> None:
    def check() -> tuple[str, str]:
        (found,) = (one for one in of_running(kernel) if one.name == "model's server")
        return found.status, found.said

    chat.models = [{"id": "small", "max_model_len": 4096}]
    assert check() == ("ok", f"small answers (small at {chat.url}), and reads 4,096 tokens.")
    chat.status, chat.body = 404, b"{}"
    status, said = check()
    assert status == "fail"
    assert "has no model 'small'" in said


# --- conversations


def test_a_conversation_grows_only_at_its_end_and_goes_on_after_a_restart(
    opened: Callable[[], Kernel], chat: ChatServer
) -> None:
    kernel = opened()
    ada = Person(kernel.api, "ada")
    first = ada.keep(GATE)
    begun = ada.ask(QUESTION, session="talk", ids=[first])
    second = ada.keep(f"The chimney of the mill is black {LONG}")
    chat.pieces = ["Black"]
    told = ada.ask("And its chimney?", session="talk", ids=[second, first])
    assert hows(told) == {first: "prefix", second: "read"}
    kernel.close()
    ada = Person(opened().api, "ada")
    third = ada.ask("Which of them is darker?", session="talk", ids=[])
    assert begun["conversation"] == told["conversation"] == third["conversation"]
    assert hows(third) == {first: "prefix", second: "prefix"}
    one, two, three = (sent(chat, place) for place in range(3))
    assert two[: len(one)] == one
    assert three[: len(two)] == two
    assert [role for role, _ in three] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [text for role, text in three if role == "assistant"] == ["Green", "Black"]
    assert "chimney of the mill is black" in two[-1][1]
    assert two[-1][1].endswith("And its chimney?")
    assert "degraded" not in third


def test_a_conversation_is_its_principals_own(ada: Person, bob: Person, chat: ChatServer) -> None:
    ada.keep(GATE)
    told = ada.ask(QUESTION, session="talk")
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    bob.ask("What did we say?", session="talk", space="personal", ids=[])
    assert len(sent(chat)) == 2
    with pytest.raises(NotFound):
        bob.promote(told["conversation"], to="plaintext")
    ada.ask("What did we say?", session="other", ids=[])
    assert len(sent(chat)) == 2


@pytest.mark.parametrize("how", ["update", "archive", "purge", "supersede", "ungrant"])
def test_a_conversation_goes_with_a_memory_in_it(
    kernel: Kernel, ada: Person, bob: Person, chat: ChatServer, home: Path, how: str
) -> None:
    cube = ada.keep(GATE)
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    chat.pieces = ["The gate is verdant"]
    begun = bob.ask(QUESTION, session="talk", space="personal", ids=[cube])
    (file,) = (home / "states").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"verdant" in file.read_bytes()
    if how == "update":
        ada.update(cube, content="The gate of the mill was sold")
    elif how == "archive":
        assert ada.forget(cube)["derived"]["states"]
    elif how == "purge":
        ada.forget(cube, mode="purge")
    elif how == "supersede":
        ada.add("The gate of the mill was sold", supersedes=[cube])
    else:
        with kernel.ledger.write() as connection:
            connection.execute(text("DELETE FROM grants"))
    if how != "ungrant":
        assert list((home / "states").iterdir()) == []
    again = bob.ask("What did we say?", session="talk", space="personal", ids=[])
    assert "begins anew" in again["degraded"]
    assert again["conversation"] != begun["conversation"]
    assert "verdant" not in str(chat.asked[-1])


def test_a_file_of_a_conversation_that_was_damaged_is_not_used(ada: Person, chat: ChatServer, home: Path) -> None:
    cube = ada.keep(GATE)
    chat.pieces = ["verdant"]
    ada.ask(QUESTION, session="talk", ids=[cube])
    (file,) = (home / "states").iterdir()
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    again = ada.ask("What did we say?", session="talk", ids=[])
    assert "begins anew" in again["degraded"]
    assert "verdant" not in str(chat.asked[-1])
    assert "degraded" not in ada.ask("And now?", session="talk", ids=[])


def test_what_was_said_is_kept_as_plaintext_once(ada: Person, chat: ChatServer) -> None:
    cube = ada.keep(GATE)
    told = ada.ask(QUESTION, session="talk", ids=[cube])
    ada.ask("And the door?", session="talk", ids=[])
    moved = ada.promote(told["conversation"], to="plaintext")["moved"]
    assert [ada.text(one) for one in moved] == [QUESTION, "Green", "And the door?", "Green"]
    assert ada.promote(told["conversation"], to="plaintext")["moved"] == []


def test_turns_of_one_conversation_wait_for_each_other(ada: Person, chat: ChatServer) -> None:
    ada.keep(GATE)
    asking = [threading.Thread(target=ada.ask, args=(f"Question {n}?",), kwargs={"session": "talk"}) for n in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(len(sent(chat, place)) for place in range(4)) == [2, 4, 6, 8]


def test_of_one_principal_the_latest_conversations_are_kept(
    kernel: Kernel, ada: Person, home: Path, chat: ChatServer
) -> None:
    ada.keep(GATE)
    for n in range(MOST + 3):
        ada.ask(QUESTION, session=f"talk {n}", ids=[])
    assert len(list((home / "states").iterdir())) == MOST
    ada.ask(QUESTION, session=f"talk {MOST + 2}", ids=[])
    assert len(sent(chat)) == 4
    ada.ask(QUESTION, session="talk 0", ids=[])
    assert len(sent(chat)) == 2


def test_a_conversation_that_outgrows_the_server_says_how_to_go_on(ada: Person, chat: ChatServer) -> None:
    ada.keep(GATE)
    begun = ada.ask(QUESTION, session="talk")
    chat.status, chat.body = 400, b'{"error": {"message": "maximum context length is 512 tokens"}}'
    with pytest.raises(ConversationFull, match="go on under another session") as full:
        ada.ask("And then?", session="talk")
    assert begun["conversation"] in str(full.value)


def test_a_store_that_changes_to_a_local_model_begins_its_conversations_anew(
    opened: Callable[[], Kernel], open_kernel: Callable[..., Kernel], home: Path, engine: FakeEngine
) -> None:
    kernel = opened()
    ada = Person(kernel.api, "ada")
    cube = ada.keep(GATE)
    ada.ask(QUESTION, session="talk", ids=[cube])
    kernel.close()
    kernel = open_kernel(engine=lambda _: engine)
    told = Person(kernel.api, "ada").ask(QUESTION, session="talk", ids=[cube])
    assert "begins anew" in told["degraded"]
    kernel.close()
    ada = Person(opened().api, "ada")
    assert "begins anew" in ada.ask(QUESTION, session="talk", ids=[cube])["degraded"]
    assert len(list((home / "states").iterdir())) == 1


def test_files_of_states_go_with_their_memories_where_the_model_was_taken_away(
    open_kernel: Callable[..., Kernel], home: Path, engine: FakeEngine
) -> None:
    kernel = open_kernel(engine=lambda _: engine)
    ada = Person(kernel.api, "ada")
    cube = ada.keep(GATE)
    ada.activate(cube)
    kernel.close()
    assert len(list((home / "states").iterdir())) == 1
    ada = Person(open_kernel().api, "ada")
    ada.forget(cube, mode="purge")
    assert list((home / "states").iterdir()) == []


# --- orders


def test_an_order_goes_on_with_the_longest_beginning_that_was_asked_for() -> None:
    orders = Orders()
    assert orders.arrange("ada", [(3, 1), (1, 1)]) == (((1, 1), (3, 1)),)
    assert orders.arrange("ada", [(1, 1), (2, 1), (3, 1)]) == (((1, 1), (3, 1)), ((2, 1),))
    assert orders.arrange("ada", [(3, 1), (2, 1), (1, 1)]) == (((1, 1), (3, 1)), ((2, 1),))
    assert orders.arrange("bob", [(1, 1), (2, 1), (3, 1)]) == (((1, 1), (2, 1), (3, 1)),)
    assert orders.arrange("ada", [(1, 1), (3, 2)]) == (((1, 1),), ((3, 2),))
    assert orders.arrange("ada", []) == ()


# --- end to end


@pytest.mark.slow
def test_a_host_asks_a_server_through_the_real_protocol(tmp_path: Path, chat: ChatServer) -> None:
    chat.usage = {"prompt_tokens": 80, "prompt_tokens_details": {"cached_tokens": 64}}
    model = f"openai:small@{chat.url}"
    with serving(tmp_path / "home", MEMOS_MODEL=model) as server:
        assert "memory_ask" in server.tools()
        cube = server.keep("小王对花生过敏，聚餐时要避开含花生的菜。")
        told = server.call("memory_ask", question="小王对什么食物过敏？", session="饭局")
        assert told.data["answer"] == "Green"
        assert told.data["used"] == [{"id": cube, "version": 1, "how": "prefix"}]
        assert "64 of the prompt's 80 tokens were cached" in told.text
        assert "that server's own" in server.refused("memory_promote", ids=[cube], to="activation")
    with serving(tmp_path / "home", MEMOS_MODEL=model) as server:
        server.done("memory_ask", question="还有呢？", session="饭局")
        assert sent(chat)[: len(sent(chat, 0))] == sent(chat, 0)
        chat.status, chat.body = 503, b'{"error": {"message": "Loading model"}}'
        assert "still loading" in server.refused("memory_ask", question="还有呢？", session="饭局")
        server.done("memory_search", query="花生")
