// Reads a device's configuration over MQTT 5 and TLS, one line for each message.
// Exit codes: 0 done, 1 settings or certificate, 2 sign-in refused, 3 subscription refused.
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const env = process.env
const topic = env.MQTT_TOPIC || 'config'
const count = Number(env.MQTT_COUNT || Infinity)

function stop (exitCode, line) {
  console.error(line)
  process.exit(exitCode)
}

for (const name of ['MQTT_HOST', 'MQTT_USERNAME', 'MQTT_PASSWORD']) {
  if (!env[name]) stop(1, `set ${name}`)
}
if (!(count > 0)) stop(1, 'MQTT_COUNT must be a number above 0')

// Bad user name or password, not authorized.
const ASK_ANEW = [0x86, 0x87]
// Server unavailable, server busy, quota exceeded, connection rate exceeded. A broker whose clock is behind, so that
// a good token is early for it, says 0x88: the token stays, and will do in a moment.
const TRY_LATER = [0x88, 0x89, 0x97, 0x9f]

// Whether the broker may refuse a token only because its clock is behind: the token was issued in the last minute.
// Mosquitto 2.0 has one code for every refusal, 0x87. A token that is thrown away at once would be followed by
// another that is just as early.
function mayBeEarly () {
  try {
    const payload = JSON.parse(Buffer.from(env.MQTT_PASSWORD.split('.')[1], 'base64url'))
    return Math.abs(Date.now() / 1000 - payload.iat) < 60
  } catch {
    return false // a password
  }
}

// Up to 2, 4, 8 ... 60 seconds, less a random part of up to half, so that devices
// which lost the same broker at the same instant do not come back at the same instant.
function backOff (failures) {
  return Math.round(Math.min(60, 2 ** (failures + 1)) * 1000 * (0.5 + Math.random() / 2))
}

const client = mqtt.connect({
  protocol: 'mqtts',
  host: env.MQTT_HOST,
  port: Number(env.MQTT_PORT || 8883),
  // Without a CA of one's own, Node's list of public authorities applies.
  ca: env.MQTT_CA ? readFileSync(env.MQTT_CA) : undefined,
  rejectUnauthorized: true,
  protocolVersion: 5,
  clientId: env.MQTT_CLIENT_ID || undefined,
  username: env.MQTT_USERNAME,
  password: env.MQTT_PASSWORD,
  reconnectPeriod: backOff(0),
  reconnectOnConnackError: true,
  // Subscribed below on every connection instead, to see each answer.
  resubscribe: false
})

let why = 'connection closed'
client.on('error', (error) => {
  why = error.message || error.code
  if (client.stream.authorizationError) stop(1, `broker's certificate not accepted: ${why}`)
  if (typeof error.code !== 'number') return // not the broker's answer but the network, which may recover
  why += ` (0x${error.code.toString(16)})`
  if (error.code === 0x87 && mayBeEarly()) return
  if (ASK_ANEW.includes(error.code)) stop(2, `${why}: ask for a new password or token, this one will not do`)
  if (!TRY_LATER.includes(error.code)) stop(2, why)
})

client.on('disconnect', ({ reasonCode }) => {
  why = `closed by the broker (0x${reasonCode?.toString(16)})`
  // Coming back would throw the other one out, and it would do the same in turn.
  if (reasonCode === 0x8e) stop(2, 'another client took over this client id')
})

let failures = 0
client.on('close', () => {
  if (client.disconnecting) return
  console.error(`${why}: trying again in ${client.options.reconnectPeriod / 1000} s`)
  why = 'connection closed'
  client.options.reconnectPeriod = backOff(++failures) // mqtt.js reads it at the next failure
})

client.on('connect', () => {
  client.subscribe(topic, { qos: 1 }, (error) => {
    const refused = error?.packet?.granted[0]
    if (refused >= 0x80) stop(3, `${topic}: subscription refused: ${error.message} (0x${refused.toString(16)})`)
    if (error) return // the connection was lost first; the next one subscribes again
    client.options.reconnectPeriod = backOff(failures = 0)
    console.error(`subscribed to ${topic}`)
  })
})

let received = 0
client.on('message', (from, payload) => {
  if (received === count) return
  console.log(`${from} ${payload}`)
  received += 1
  // Not at once: the broker is still to get the acknowledgement of this message.
  if (received === count) setImmediate(() => client.end())
})
