"""The floor of what Python can do: asyncio.Protocol on both sides under uvloop; answers pass through unparsed but for
finding their end. No framework, no ASGI. Run: python protocol.py PORT"""

import asyncio
import sys

import httptools
import uvloop
from nodes import check, pick

REASON = {400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 502: b"Bad Gateway"}


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.open, self.client = transport, True, None

    def start(self, client, request):
        self.client, self.parser, self.done, self.any = client, httptools.HttpResponseParser(self), False, False
        self.transport.write(request)

    def data_received(self, data):
        if not self.client:
            return self.transport.close()
        self.parser.feed_data(data)
        self.any = True
        self.client.transport.write(data)
        if self.done:
            client, self.client = self.client, None
            client.finished(self, self.reusable)

    def on_message_complete(self):
        self.done, self.reusable = True, self.parser.should_keep_alive()  # the parser forgets it after this

    def connection_lost(self, exc):
        self.open = False
        if self.client:
            self.client.failed(self.any)


class Downstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.node, self.up = transport, None, None
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self):
        self.url, self.body, self.auth = b"", b"", b""

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        if name.lower() == b"authorization":
            self.auth = value

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        refuse, _ = check(self.auth, self.body)
        if refuse:
            return self.refuse(refuse)
        self.node = node = pick()
        node.flying += 1
        self.request = b"POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            self.url,
            node.host.encode(),
            node.port,
            len(self.body),
            self.body,
        )
        while node.idle:
            up = node.idle.pop()
            if up.open:
                self.up = up
                return up.start(self, self.request)
        self.connecting = asyncio.ensure_future(self.connect(node))

    async def connect(self, node):
        try:
            _, self.up = await asyncio.get_running_loop().create_connection(Upstream, node.host, node.port)
        except OSError:
            return self.failed(False)
        if self.transport.is_closing():
            return self.up.transport.close()
        self.up.start(self, self.request)

    def refuse(self, status):
        self.transport.write(b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\n\r\n" % (status, REASON[status]))

    def finished(self, up, reusable):
        self.node.flying -= 1
        node, self.node, self.up = self.node, None, None
        node.idle.append(up) if reusable else up.transport.close()

    def failed(self, answered):
        if not self.node:
            return
        self.node.flying -= 1
        self.node = self.up = None
        self.transport.close() if answered else self.refuse(502)

    def connection_lost(self, exc):  # the client went away: drop what the node is doing for it
        if self.node:
            self.node.flying -= 1
            self.node = None
        if self.up:
            self.up.client = None
            self.up.transport.close()

    def pause_writing(self):
        if self.up:
            self.up.transport.pause_reading()

    def resume_writing(self):
        if self.up:
            self.up.transport.resume_reading()


async def main(port):
    server = await asyncio.get_running_loop().create_server(Downstream, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(int(sys.argv[1])))
