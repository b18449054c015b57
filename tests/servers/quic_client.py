"""MQTT 5 over one QUIC stream by aioquic. Its argument is a JSON object; tells, as JSON, what came back."""
import asyncio
import json
import ssl
import struct
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

PATIENCE = 60
args = json.loads(sys.argv[1])


def text(value):
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def packet(first, body):
    length, size = b"", len(body)
    while True:
        byte = size % 128
        size //= 128
        length += bytes([byte | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def mqtt_connect():
    flags, payload = 0x02, text(args["id"])
    if "user" in args:
        flags |= 0xC0
        payload += text(args["user"]) + text(args["password"])
    return packet(0x10, text("MQTT") + bytes([5, flags]) + struct.pack("!H", 60) + b"\0" + payload)


def publish(packet_id, topic, body):
    return packet(0x32, text(topic) + struct.pack("!H", packet_id) + b"\0" + body.encode())


class Reader:
    def __init__(self, stream):
        self.stream = stream

    async def packet(self):
        """(first byte, body), or None at the end."""
        first = await self.stream.read(1)
        if not first:
            return None
        size = shift = 0
        while True:
            byte = (await self.stream.readexactly(1))[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return first[0], await self.stream.readexactly(size)


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["mqtt"], server_name="localhost")
    configuration.load_verify_locations(args["ca"])
    configuration.verify_mode = ssl.CERT_REQUIRED
    if "cert" in args:
        configuration.load_cert_chain(args["cert"], args["key"])
    told = {"connack": None, "acks": [], "disconnect": None, "ended": False}
    async with connect("127.0.0.1", args["port"], configuration=configuration) as protocol:
        read, write = await protocol.create_stream()
        reader = Reader(read)
        # In small pieces, as a network may cut it.
        first = mqtt_connect()
        for i in range(0, len(first), 7):
            write.write(first[i : i + 7])
        first, body = await reader.packet()
        assert first == 0x20, first
        told["connack"] = body[1]
        for n in range(args.get("count", 0)):
            write.write(publish(n + 1, args["topic"], json.dumps({"n": n}, separators=(",", ":"))))
        for _ in range(args.get("count", 0)):
            first, body = await reader.packet()
            assert first == 0x40, first
            told["acks"].append([struct.unpack("!H", body[:2])[0], body[2] if len(body) > 2 else 0])
        if "send" in args:
            write.write(bytes.fromhex(args["send"]))
        else:
            write.write(packet(0xE0, b""))
        try:
            while (got := await reader.packet()) is not None:
                if got[0] == 0xE0:
                    told["disconnect"] = got[1][0] if got[1] else 0
            told["ended"] = True
        except (asyncio.IncompleteReadError, ConnectionError):
            told["ended"] = True
    print(json.dumps(told))


asyncio.run(asyncio.wait_for(main(), PATIENCE))
