// oidc-provider (https://github.com/panva/node-oidc-provider) as a server for tests: node server.js SETTINGS.json
//
// The settings are those of `crates/testbed/src/oidc_provider.rs`. For each algorithm there is a client
// "device-ALGORITHM", which gets tokens for itself (client_credentials). The client "broker" may use the
// password grant.
//
// It writes its issuer to the output once it listens, and ends when its input does.

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider, { errors } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2]));

const client = (id, grant) => ({
  client_id: id,
  client_secret: settings.secret,
  grant_types: [grant],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: grant === 'password' ? 'client_secret_basic' : 'client_secret_post',
});

const key = (kid, type, options) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid };
};

const keys = [
  key('rsa', 'rsa', { modulusLength: 2048 }),
  key('p256', 'ec', { namedCurve: 'P-256' }),
  key('p384', 'ec', { namedCurve: 'P-384' }),
  key('ed', 'ed25519'),
];

function resourceServer(ctx, resource, { clientId }) {
  if (resource !== settings.audience) {
    throw new errors.InvalidTarget();
  }
  const own = settings.algorithms.find((algorithm) => clientId === `device-${algorithm}`);
  const alg = own ?? settings.algorithms[0];
  return { audience: resource, scope: '', accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
}

// The package has no password grant, but lets others add grants (its documentation: "Custom Grant Types").
async function password(ctx) {
  const { client, params, provider } = ctx.oidc;
  if (params.username !== settings.username || params.password !== settings.password) {
    throw new errors.InvalidGrant('wrong user name or password');
  }
  const token = new provider.AccessToken({ accountId: params.username, client, gty: 'password' });
  const info = resourceServer(ctx, settings.audience, client);
  token.resourceServer = new provider.ResourceServer(settings.audience, info);
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration };
}

const server = createServer({ key: settings.key, cert: settings.certificate });
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      client('broker', 'password'),
      ...settings.algorithms.map((algorithm) => client(`device-${algorithm}`, 'client_credentials')),
    ],
    jwks: { keys },
    ttl: { AccessToken: 3600, ClientCredentials: 3600 },
    extraTokenClaims: () => ({ topics: settings.topics }),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => settings.audience,
        getResourceServerInfo: resourceServer,
      },
    },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  provider.registerGrantType('password', password, ['username', 'password', 'scope', 'audience']);
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.on('end', () => process.exit()).resume();
