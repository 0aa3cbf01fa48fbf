"""Publishes temperature readings over MQTT 5 and TLS.

Exit codes: 0 done, 1 settings or certificate, 2 sign-in refused, 3 reading refused.
"""
import base64
import json
import os
import random
import ssl
import sys
import time

import paho.mqtt.client as mqtt

env = os.environ
TOPIC = env.get("MQTT_TOPIC") or "temperature"
COUNT = int(env.get("MQTT_COUNT") or 1)
# Bad user name or password, not authorized.
ASK_ANEW = {0x86, 0x87}
# Server unavailable, server busy, quota exceeded, connection rate exceeded. A broker whose clock is behind, so that
# a good token is early for it, says 0x88: the token stays, and will do in a moment.
TRY_LATER = {0x88, 0x89, 0x97, 0x9F}

why = ""
failures = sent = acknowledged = 0


def may_be_early():
    """Whether the broker may refuse a token only because its clock is behind: the token was issued in the last minute.

    Mosquitto 2.0 has one code for every refusal, 0x87. A token that is thrown away at once would be followed by
    another that is just as early.
    """
    try:
        payload = env["MQTT_PASSWORD"].split(".")[1]
        issued = json.loads(base64.urlsafe_b64decode(payload + "==")).get("iat", 0)
        return abs(time.time() - issued) < 60
    except (IndexError, ValueError):
        return False  # a password


def stop(exit_code, line):
    print(line, file=sys.stderr)
    sys.exit(exit_code)


def on_connect(_client, _userdata, _flags, reason, _properties):
    global why
    if not reason.is_failure:
        return
    why = f"Connection refused: {reason} (0x{reason.value:x})"
    if reason.value == 0x87 and may_be_early():
        return
    if reason.value in ASK_ANEW:
        stop(2, f"{why}: ask for a new password or token, this one will not do")
    if reason.value not in TRY_LATER:
        stop(2, why)


def on_publish(_client, _userdata, _mid, reason, _properties):
    global acknowledged, failures
    if reason.is_failure:
        stop(3, f"{TOPIC}: reading refused: {reason} (0x{reason.value:x})")
    acknowledged += 1
    failures = 0
    print(f"published {TOPIC} {reading}", flush=True)


for name in ("MQTT_HOST", "MQTT_USERNAME", "MQTT_PASSWORD"):
    if not env.get(name):
        stop(1, f"set {name}")

# Only MQTT 5 tells a device that the broker dropped its message.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env.get("MQTT_CLIENT_ID", ""), protocol=mqtt.MQTTv5)
client.username_pw_set(env["MQTT_USERNAME"], env["MQTT_PASSWORD"])
# Checks the broker's certificate and host name; without a CA of one's own, by the system's list.
client.tls_set(env.get("MQTT_CA") or None)
client.on_connect = on_connect
client.on_publish = on_publish

while True:
    why = "connection closed"
    try:
        client.connect(env["MQTT_HOST"], int(env.get("MQTT_PORT") or 8883))
        while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
            # A reading that lost its connection is sent again by paho on the next one.
            if not client.is_connected() or sent > acknowledged:
                continue
            if sent == COUNT:
                client.disconnect()
                sys.exit(0)
            if sent:
                time.sleep(1)
            reading = f"{random.uniform(20, 22):.1f}"
            client.publish(TOPIC, reading, qos=1)
            sent += 1
    except ssl.SSLCertVerificationError as error:
        stop(1, f"broker's certificate not accepted: {error.verify_message}")
    except OSError as error:
        why = str(error)
    # Up to 2, 4, 8 ... 60 seconds, less a random part of up to half, so that devices
    # which lost the same broker at the same instant do not come back at the same instant.
    failures += 1
    delay = min(60, 2**failures) * random.uniform(0.5, 1)
    print(f"{why}: trying again in {delay:.1f} s", file=sys.stderr)
    time.sleep(delay)
