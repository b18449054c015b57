"""A QUIC listener by aioquic: every stream (ALPN mqtt) is piped to a TCP port. Its argument is a JSON object."""
import asyncio
import json
import sys

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration

args = json.loads(sys.argv[1])


async def pipe(read, write):
    try:
        while data := await read.read(65536):
            write.write(data)
            await write.drain()
        write.write_eof()
    except (ConnectionError, OSError, RuntimeError):
        write.close()


async def stream(quic_read, quic_write):
    try:
        tcp_read, tcp_write = await asyncio.open_connection("127.0.0.1", args["tcp"])
    except OSError:
        quic_write.close()
        return
    await asyncio.gather(pipe(quic_read, tcp_write), pipe(tcp_read, quic_write))
    tcp_write.close()


async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["mqtt"])
    configuration.load_cert_chain(args["cert"], args["key"])
    tasks = set()

    def handle(read, write):
        task = asyncio.ensure_future(stream(read, write))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await serve("127.0.0.1", args["quic"], configuration=configuration, stream_handler=handle)
    print("listening", flush=True)
    await asyncio.Future()


asyncio.run(main())
