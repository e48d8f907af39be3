"""A server of the MCP SDK with one tool: what a server costs that does nothing, in the process that a host starts."""

from mcp.server import MCPServer

server = MCPServer("hello")


@server.tool()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


server.run()
