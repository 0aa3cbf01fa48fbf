// Stays connected over MQTT 5 and TLS while its tokens change: presents a token as authentication data, and each new
// one in an AUTH packet. Exit codes: 0 done, 1 settings or certificate, 2 sign-in or renewal refused.
import { readFileSync, watchFile } from 'node:fs'
import mqtt from 'mqtt'

const env = process.env
const count = Number(env.MQTT_COUNT || Infinity)

function stop (exitCode, line) {
  console.error(line)
  process.exit(exitCode)
}

for (const name of ['MQTT_HOST', 'MQTT_TOKEN_FILE']) {
  if (!env[name]) stop(1, `set ${name}`)
}

// The file holds the newest token. Something else fetches it from the tenant, some minutes before the last one ends.
function authentication () {
  const token = readFileSync(env.MQTT_TOKEN_FILE, 'utf8').trim()
  return { authenticationMethod: 'OAUTH2-JWT', authenticationData: Buffer.from(token) }
}

const client = mqtt.connect({
  protocol: 'mqtts',
  host: env.MQTT_HOST,
  port: Number(env.MQTT_PORT || 8883),
  ca: env.MQTT_CA ? readFileSync(env.MQTT_CA) : undefined,
  rejectUnauthorized: true,
  protocolVersion: 5,
  clientId: env.MQTT_CLIENT_ID || undefined,
  properties: authentication()
})

client.on('connect', () => console.log('connected'))

// mqtt.js has no function of its own for re-authentication.
function sendAuth (reasonCode, properties) {
  client._sendPacket({ cmd: 'auth', reasonCode, properties })
}

watchFile(env.MQTT_TOKEN_FILE, { interval: 200 }, () => {
  client.options.properties = authentication() // also for the next CONNECT
  if (client.connected) sendAuth(0x19, client.options.properties)
})

let renewed = 0
client.handleAuth = (packet, callback) => {
  const { authenticationMethod } = client.options.properties
  const again = { cmd: 'auth', reasonCode: 0x18, properties: { authenticationMethod } }
  // 0x18: the broker still fetches the key that signed the token.
  if (packet.reasonCode === 0x18) return setTimeout(callback, 500, null, again)
  callback()
  console.log('renewed')
  renewed += 1
  if (renewed === count) client.end()
}

client.on('error', (error) => {
  if (client.stream.authorizationError) stop(1, `broker's certificate not accepted: ${error.message}`)
  if (typeof error.code === 'number') stop(2, `${error.message} (0x${error.code.toString(16)})`)
})

// A renewal that is refused closes the connection. Mosquitto before 2.0.13 does not say why.
client.on('disconnect', ({ reasonCode }) => {
  if (reasonCode === 0x87) stop(2, 'the new token was refused (0x87)')
})
