"""`python -m memos_mcp` is the console script."""

from memos_mcp.entry import main

main()
