// npm's certified oidc-provider: node oidc_provider.mjs PACKAGE PORT [BACK]. Every start makes new keys.
// Programs get JWTs by client_credentials; the resource they ask for becomes the audience, its last part the algorithm.
// People sign in under any name for the clients `studio` and `public`, which are called back at BACK. What it gives them
// lasts so shortly that it is renewed all the time.
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [, , folder, port, back] = process.argv;
const { default: Provider } = await import(pathToFileURL(`${folder}/lib/index.js`));

const keys = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};

const client = (client_id) => ({
  client_id,
  client_secret: 'not a secret',
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
});

const studio = {
  client_id: 'studio',
  client_secret: 'not a secret',
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: [back],
};
const people = back
  ? [studio, { ...studio, client_id: 'public', client_secret: undefined, token_endpoint_auth_method: 'none' }]
  : [];

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [...['nightly', 'other', 'stranger'].map(client), ...people],
  ttl: { IdToken: 25 },
  issueRefreshToken: (_, issuedTo) => issuedTo.clientId === 'studio',
  jwks: {
    keys: Object.entries(keys).map(([alg, { privateKey }]) => ({
      ...privateKey.export({ format: 'jwk' }), alg, use: 'sig',
    })),
  },
  features: {
    devInteractions: { enabled: Boolean(back) },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: (_, resource) => ({
        scope: 'api',
        audience: resource.slice(0, resource.lastIndexOf('/')),
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: resource.slice(resource.lastIndexOf('/') + 1) } },
      }),
    },
  },
});

provider.on('grant.success', (context) => console.log(`granted ${context.oidc.params.grant_type}`));
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
