#!/usr/bin/env python3
"""An echo server by `websockets`, the WebSocket library of Python.

The query of each request chooses what it does about permessage-deflate (RFC 7692):

  deflate=off           it declines
  server_no_context_takeover, client_no_context_takeover, server_max_window_bits=9, client_max_window_bits=9
                        what it imposes
  level=0, strategy=4   how it compresses
  fragment=1000         it sends messages in fragments of so many characters, or bytes

Prints its port once it listens.
"""
import asyncio
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

MAXIMUM_MESSAGE_SIZE = 16 * 1024 * 1024


def query(request):
    return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))


def extensions(chosen):
    """What `websockets` is told about compression. What is None is left to the client."""
    if chosen.get("deflate") == "off":
        return []
    numbers = {name: int(value) for name, value in chosen.items() if value.isdigit()}
    return [
        ServerPerMessageDeflateFactory(
            server_no_context_takeover="server_no_context_takeover" in chosen,
            client_no_context_takeover="client_no_context_takeover" in chosen,
            server_max_window_bits=numbers.get("server_max_window_bits"),
            client_max_window_bits=numbers.get("client_max_window_bits"),
            compress_settings={name: numbers[name] for name in ("level", "strategy") if name in numbers},
        )
    ]


def negotiate(connection, request):
    """Comes before the request is answered."""
    connection.protocol.available_extensions = extensions(query(request))


async def echo(connection):
    """Sends every message back, in one frame or in fragments."""
    fragment = int(query(connection.request).get("fragment", 0))
    async for message in connection:
        if fragment and message:
            message = [message[begin : begin + fragment] for begin in range(0, len(message), fragment)]
        await connection.send(message)


async def main():
    options = {"compression": None, "process_request": negotiate, "max_size": MAXIMUM_MESSAGE_SIZE}
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
