"""paho-mqtt publishes to a centre and tells, as JSON, what it was answered. Its argument is a JSON object."""
import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 60
args = json.loads(sys.argv[1])
v5 = args["version"] == 5
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=args["id"],
    protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
)
client.tls_set(args["ca"], args.get("cert"), args.get("key"), cert_reqs=ssl.CERT_REQUIRED)
if "user" in args:
    client.username_pw_set(args["user"], args["password"])

told = {"connected": None, "acked_and_there": 0, "foreign": None, "closed": False}
connected, closed = threading.Event(), threading.Event()
answers, answered = {}, threading.Condition()


def on_connect(_client, _data, _flags, reason, _properties):
    told["connected"] = reason.value
    connected.set()


def on_disconnect(_client, _data, _flags, _reason, _properties):
    closed.set()
    with answered:
        answered.notify_all()
    # It would come again by itself.
    client.disconnect()


def on_publish(_client, _data, mid, reason, _properties):
    with answered:
        answers[mid] = reason.value
        answered.notify_all()


def publish(topic, body):
    """The reason code of its acknowledgement; None if none came."""
    properties = None
    if v5:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("unit", "kelvin")
    info = client.publish(topic, json.dumps(body, separators=(",", ":")), qos=1, properties=properties)
    with answered:
        answered.wait_for(lambda: info.mid in answers or closed.is_set(), PATIENCE)
        return answers.get(info.mid)


def is_there(body):
    with open(args["out"], encoding="utf-8") as out:
        return any(
            record.get("topic") == args["topic"] and record["payload"] == body
            for record in map(json.loads, out.read().splitlines())
        )


client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
client.connect(args["host"], args["port"], keepalive=30)
client.loop_start()
if connected.wait(PATIENCE) and told["connected"] == 0:
    for n in range(args["count"]):
        body = {"n": n}
        if publish(args["topic"], body) == 0 and is_there(body):
            told["acked_and_there"] += 1
    told["foreign"] = publish(args["foreign"], {})
    if not v5:
        told["closed"] = closed.wait(PATIENCE)
client.disconnect()
client.loop_stop()
print(json.dumps(told))
