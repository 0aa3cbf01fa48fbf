"""Reads a device's configuration over MQTT 5 and TLS, one line for each message.

Exit codes: 0 done, 1 settings or certificate, 2 sign-in refused, 3 subscription refused.
"""
import base64
import json
import os
import random
import signal
import ssl
import sys
import time

import paho.mqtt.client as mqtt

env = os.environ
TOPIC = env.get("MQTT_TOPIC") or "config"
COUNT = float(env.get("MQTT_COUNT") or "inf")
# Bad user name or password, not authorized.
ASK_ANEW = {0x86, 0x87}
# Server unavailable, server busy, quota exceeded, connection rate exceeded. A broker whose clock is behind, so that
# a good token is early for it, says 0x88: the token stays, and will do in a moment.
TRY_LATER = {0x88, 0x89, 0x97, 0x9F}

why = ""
failures = received = 0


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


def on_connect(client, _userdata, _flags, reason, _properties):
    global why
    if not reason.is_failure:
        # On every connection, because the broker forgets a session that was cut off.
        client.subscribe(TOPIC, qos=1)
        return
    why = f"Connection refused: {reason} (0x{reason.value:x})"
    if reason.value == 0x87 and may_be_early():
        return
    if reason.value in ASK_ANEW:
        stop(2, f"{why}: ask for a new password or token, this one will not do")
    if reason.value not in TRY_LATER:
        stop(2, why)


def on_disconnect(_client, _userdata, flags, reason, _properties):
    global why
    if flags.is_disconnect_packet_from_server:
        why = f"closed by the broker: {reason} (0x{reason.value:x})"
        # Coming back would throw the other one out, and it would do the same in turn.
        if reason.value == 0x8E:
            stop(2, "another client took over this client id")


def on_subscribe(_client, _userdata, _mid, reasons, _properties):
    global failures
    if reasons[0].is_failure:
        stop(3, f"{TOPIC}: subscription refused: {reasons[0]} (0x{reasons[0].value:x})")
    failures = 0
    print(f"subscribed to {TOPIC}", file=sys.stderr)


def on_message(_client, _userdata, message):
    global received
    if received < COUNT:
        print(message.topic, message.payload.decode(errors="replace"), flush=True)
        received += 1


for name in ("MQTT_HOST", "MQTT_USERNAME", "MQTT_PASSWORD"):
    if not env.get(name):
        stop(1, f"set {name}")

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is its usual end, no traceback

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env.get("MQTT_CLIENT_ID", ""), protocol=mqtt.MQTTv5)
client.username_pw_set(env["MQTT_USERNAME"], env["MQTT_PASSWORD"])
# Checks the broker's certificate and host name; without a CA of one's own, by the system's list.
client.tls_set(env.get("MQTT_CA") or None)
client.on_connect = on_connect
client.on_disconnect = on_disconnect
client.on_subscribe = on_subscribe
client.on_message = on_message

while True:
    why = "connection closed"
    try:
        client.connect(env["MQTT_HOST"], int(env.get("MQTT_PORT") or 8883))
        while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
            # Here and not in on_message, after which paho acknowledges the message.
            if received == COUNT:
                client.disconnect()
                sys.exit(0)
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
