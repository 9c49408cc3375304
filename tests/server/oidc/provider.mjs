// A real identity provider on loopback, for tests: oidc-provider, with people in groups, with and without a second
// factor. It prints its address as one line of JSON. The tests tell it by POST /control what is to be so from now on:
//
//   redirect   the address that the client may be sent back to
//   people     {name: {groups, amr, acr, …claims}}, in place of those that are there
//   rotate     new keys, and no old ones
//   id_token   the next answer of the token endpoint has this one instead of its own (a provider that is taken over)
//
// GET /control gives the private key and the last token request, as one who has broken in would have them.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const AUDIENCE = "urn:twinseal:api";
const SECRET = "a secret for tests: %+&"; // with what must be escaped on its way
const state = { redirect: "http://localhost:1/twinseal/callback", people: {}, id_token: null, last: "", keys: [] };
const signedIn = new Map(); // amr and acr of each person's last sign-in, by the provider's own name for them
const names = new Map();
let handle = null;

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomBytes(8).toString("hex"), use: "sig", alg: "RS256" };
}

function claimsOf(id) {
  const name = names.get(id);
  const { amr: _amr, acr: _acr, id: _id, ...claims } = state.people[name] ?? {};
  return { sub: id, preferred_username: name, email: `${name}@plant.test`, ...claims };
}

function client(id) {
  return {
    client_id: id, client_secret: SECRET, redirect_uris: [state.redirect],
    grant_types: ["authorization_code"], response_types: ["code"],
  };
}

function build(issuer) {
  const provider = new Provider(issuer, {
    clients: [client("twinseal"), client("another")],
    jwks: { keys: state.keys },
    cookies: { keys: [randomBytes(16).toString("hex")] },
    conformIdTokenClaims: false,
    acrValues: ["urn:plant:two"],
    claims: { openid: ["sub", "amr", "acr"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "", audience: AUDIENCE, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
    extraTokenClaims: (_ctx, token) => {
      const { sub: _sub, ...claims } = claimsOf(token.accountId);
      return { ...claims, ...signedIn.get(token.accountId) };
    },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => claimsOf(id) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope("openid profile email");
      grant.addResourceScope(AUDIENCE, "");
      await grant.save();
      return grant;
    },
    pkce: { required: () => true },
    ttl: { AccessToken: 600, IdToken: 600, Grant: 3600, Interaction: 600, Session: 3600, AuthorizationCode: 60 },
  });
  provider.use(async (ctx, next) => {
    const found = /^\/interaction\/([\w-]+)$/.exec(ctx.path);
    if (found && ctx.method === "GET") {
      ctx.type = "html";
      ctx.body = '<title>Provider</title><form method="post"><input name="name" aria-label="name"><button>Sign in</button></form>';
      return;
    }
    if (found) {
      const name = new URLSearchParams(await body(ctx.req)).get("name") ?? "";
      if (name === "cancel") {
        await provider.interactionFinished(ctx.req, ctx.res, { error: "access_denied", error_description: "<b>no</b>" });
      } else {
        const { amr = ["pwd"], acr, id: own = name } = state.people[name] ?? {};
        const id = `id-${own}`;
        names.set(id, name);
        signedIn.set(id, { amr, ...(acr ? { acr } : {}) });
        await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: id, amr, acr } });
      }
      ctx.respond = false;
      return;
    }
    await next();
    if (ctx.path === "/token" && ctx.status === 200 && state.id_token) {
      ctx.body = { ...ctx.body, id_token: state.id_token };
      state.id_token = null;
    }
  });
  provider.on("grant.success", (ctx) => { state.last = JSON.stringify(ctx.oidc.params); });
  return provider.callback();
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const server = createServer(async (request, response) => {
  if (request.url !== "/control") return handle(request, response);
  if (request.method === "POST") {
    const { rotate, ...changes } = JSON.parse(await body(request));
    Object.assign(state, changes);
    if (rotate) state.keys = [newKey()];
    if (rotate || changes.redirect) handle = build(issuer);
  }
  response.setHeader("Content-Type", "application/json");
  return response.end(JSON.stringify({ key: state.keys[0], last: state.last }));
});
let issuer = "";
server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  state.keys = [newKey()];
  handle = build(issuer);
  console.log(JSON.stringify({ issuer, audience: AUDIENCE, client_secret: SECRET }));
});
