"""Stays connected over MQTT 5 and TLS while its tokens change: presents a token as authentication data, and publishes
each new one. (paho-mqtt does not know the AUTH packet, with which renewing.js renews its token.)

Exit codes: 0 done, 1 settings or certificate, 2 sign-in or renewal refused.
"""
import json
import os
import random
import ssl
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

env = os.environ
COUNT = int(env.get("MQTT_COUNT") or 0)
RENEW = "$CONTROL/auth0/v1/renew"
# Server unavailable, server busy, quota exceeded, connection rate exceeded.
TRY_LATER = {0x88, 0x89, 0x97, 0x9F}

why = ""
failures = renewed = 0


def stop(exit_code, line):
    print(line, file=sys.stderr)
    sys.exit(exit_code)


def newest_token():
    """Reads the file. Something else fetches tokens from the tenant, each some minutes before the last one ends."""
    with open(env["MQTT_TOKEN_FILE"], encoding="ascii") as file:
        return file.read().strip()


def authentication(token):
    properties = Properties(PacketTypes.CONNECT)
    properties.AuthenticationMethod = "OAUTH2-JWT"
    properties.AuthenticationData = token.encode()
    return properties


def on_connect(_client, _userdata, _flags, reason, _properties):
    global why, failures
    if reason.is_failure:
        why = f"Connection refused: {reason} (0x{reason.value:x})"
        if reason.value not in TRY_LATER:
            stop(2, why)
        return
    failures = 0
    print("connected", flush=True)


def on_message(_client, _userdata, message):
    global renewed
    # The answer needs no subscription.
    if message.topic != f"{RENEW}/response":
        return
    answer = json.loads(message.payload)
    if answer["result"] != "renewed":
        stop(2, f"the new token was refused: {answer['reason']}: {answer['error']}")
    renewed += 1
    print("renewed", flush=True)


for name in ("MQTT_HOST", "MQTT_TOKEN_FILE"):
    if not env.get(name):
        stop(1, f"set {name}")

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env.get("MQTT_CLIENT_ID", ""), protocol=mqtt.MQTTv5)
# Checks the broker's certificate and host name; without a CA of one's own, by the system's list.
client.tls_set(env.get("MQTT_CA") or None)
client.on_connect = on_connect
client.on_message = on_message

while True:
    why = "connection closed"
    token = newest_token()
    try:
        port = int(env.get("MQTT_PORT") or 8883)
        client.connect(env["MQTT_HOST"], port, properties=authentication(token))
        while client.loop(0.2) == mqtt.MQTT_ERR_SUCCESS:
            if COUNT and renewed == COUNT:
                client.disconnect()
                sys.exit(0)
            newest = newest_token()
            if client.is_connected() and newest and newest != token:
                token = newest
                client.publish(RENEW, token, qos=1)
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
