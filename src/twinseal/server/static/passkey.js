// Makes a passkey in the reviewer's device, and gives its public half as a file for the custodians.

const byId = (name) => document.getElementById(name);
const decoded = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const encoded = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function call(path, body) {
  const answer = await fetch(`/api/twinseal/v1${path}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin",
  });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error([value.message || `HTTP ${answer.status}`, value.remedy].filter(Boolean).join(" "));
  return value;
}

async function make() {
  const asked = await call("/passkeys/options", {});
  const found = await navigator.credentials.create({ publicKey: {
    challenge: decoded(asked.challenge), rp: { id: asked.rp_id, name: "twinseal" },
    user: { id: decoded(asked.user_id), name: asked.name, displayName: asked.name },
    pubKeyCredParams: [{ type: "public-key", alg: -7 }], attestation: "none", timeout: 120000,
    authenticatorSelection: { userVerification: "required", residentKey: "preferred" },
  } });
  const credential = { id: found.id, rawId: found.id, type: found.type, response: {
    clientDataJSON: encoded(found.response.clientDataJSON),
    attestationObject: encoded(found.response.attestationObject),
  } };
  const made = await call("/passkeys", { credential });
  byId("fingerprint").textContent = made.fingerprint;
  byId("content").textContent = made.file;
  byId("file").href = URL.createObjectURL(new Blob([made.file], { type: "application/json" }));
  byId("made").hidden = false;
  byId("status").textContent = "";
}

byId("make")?.addEventListener("click", async () => {
  byId("make").disabled = true;
  byId("status").textContent = "Touch your device …";
  try {
    await make();
  } catch (error) {
    byId("status").textContent = error.message;
  } finally {
    byId("make").disabled = false;
  }
});
