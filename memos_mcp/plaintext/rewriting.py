"""Writes full text anew, a little at a time, in a store where a former version wrote it otherwise.

Knows nothing of searches: until it has come to a memory, that one is found by what the former version indexed of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.indexed import FORM
from memos_mcp.plaintext.views import Views
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

WRITTEN = "full_text_form"
"""Key of the note that says in which form full text is whole."""
UPTO = "full_text_upto"
"""Key of the note up to which memory it has been written anew."""
BATCH = 200


def bring_up(ledger: Ledger, vault: Vault, views: Views, ending: Callable[[], bool]) -> None:
    """Write what is in a former form anew, from where an earlier run was ended; `ending()` is asked between batches.

    Raises:
        StorageFailed: what was written so far stays.
    """
    with ledger.read() as connection:
        if ledger.get(connection, WRITTEN) == FORM:
            return
    upto, many = 0, 0
    while not ending():
        with ledger.write() as connection:
            upto = max(upto, _noted(ledger.get(connection, UPTO)))
            last = vault.rewrite_full_text(connection, upto, BATCH)
            ledger.put(connection, UPTO, None if last is None else f"{FORM} {last}")
            if last is None:
                ledger.put(connection, WRITTEN, FORM)
        if last is None:
            views.clear()
            if many:
                log.info("full text was written anew in form %s", FORM)
            return
        upto, many = last, many + 1


def _noted(upto: str | None) -> int:
    form, _, last = (upto or "").partition(" ")
    return int(last) if form == FORM and last.isdigit() else 0
