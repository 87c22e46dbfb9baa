// An echo server by `ws`, the WebSocket library of node. The query of each request chooses what it does about
// permessage-deflate (RFC 7692):
//
//   deflate=off                      it declines
//   server_no_context_takeover, client_no_context_takeover, server_max_window_bits=9, client_max_window_bits=9
//                                    what it imposes
//   threshold=0, level=0, strategy=4 how it compresses
//   fragment=1000                    it sends messages in fragments of so many bytes
//
// Prints its port once it listens.
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');

const MAXIMUM_MESSAGE_SIZE = 16 * 1024 * 1024;

/** What `ws` is told about compression. What is undefined is left to the client, or to the library. */
function perMessageDeflate(query) {
  if (query.get('deflate') === 'off') return false;
  const flag = (name) => query.has(name) || undefined;
  const number = (name) => (query.has(name) ? Number(query.get(name)) : undefined);
  return {
    serverNoContextTakeover: flag('server_no_context_takeover'),
    clientNoContextTakeover: flag('client_no_context_takeover'),
    serverMaxWindowBits: number('server_max_window_bits'),
    clientMaxWindowBits: number('client_max_window_bits'),
    threshold: number('threshold'),
    zlibDeflateOptions: { level: number('level'), strategy: number('strategy') },
  };
}

/** Sends every message back, in one frame or in fragments. */
function echo(socket, fragment) {
  socket.on('error', (error) => console.error(error));
  socket.on('message', (data, binary) => {
    let begin = 0;
    do {
      const end = Math.min(begin + fragment, data.length);
      socket.send(data.subarray(begin, end), { binary, fin: end === data.length, compress: true });
      begin = end;
    } while (begin < data.length);
  });
}

const server = http.createServer();
server.on('upgrade', (request, stream, head) => {
  const query = new URL(request.url, 'http://localhost').searchParams;
  new WebSocketServer({
    noServer: true,
    maxPayload: MAXIMUM_MESSAGE_SIZE,
    perMessageDeflate: perMessageDeflate(query),
  }).handleUpgrade(request, stream, head, (socket) => echo(socket, Number(query.get('fragment') ?? Infinity)));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
