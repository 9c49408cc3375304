// What a reviewer's buttons do: ask the server what is to be signed, show it, let the passkey sign, send it back.
// The page computes the digests and the challenge itself, from the texts that it shows.

const CALLS = "/api/twinseal/v1";
const card = document.querySelector(".decide");
const dialog = document.getElementById("sign");
const byId = (name) => document.getElementById(name);

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
const decoded = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const encoded = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function call(path, body) {
  const answer = await fetch(`${CALLS}${path}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin",
  });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error([value.message || `HTTP ${answer.status}`, value.remedy].filter(Boolean).join(" "));
  return value;
}

// Letters that turn the direction of writing, as JSON writes them: they must not reorder what is around them.
const visible = (text) =>
  text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16)}`);

async function challengeOf(texts) {
  const digests = await Promise.all(texts.map(async (text) => hex(await sha256(text))));
  return { digests, challenge: await sha256(JSON.stringify(digests)) };
}

function show(draft) {
  const said = draft.said;
  const words = { approve: "Approve", reject: "Reject", withdraw: "Take back your decision on", comment: "Comment on" };
  byId("sign-title").textContent = `${words[said.decision]} ${said.model} release ${said.version}`;
  byId("sign-words").textContent =
    `As ${said.holder}, decision ${said.sequence}` + (said.comment ? `, in your words: “${visible(said.comment)}”` : ", without words");
  byId("sign-status").textContent = "";
  byId("sign-texts").replaceChildren(...draft.texts.flatMap((text, at) => {
    const digest = document.createElement("p");
    digest.textContent = `SHA-256 ${draft.digests[at]}`;
    const shown = document.createElement("pre");
    shown.textContent = visible(text);
    return [digest, shown];
  }));
  dialog.showModal();
}

async function sign(candidate, draft) {
  const { digests, challenge } = await challengeOf(draft.texts);
  if (digests.join() !== draft.digests.join() || encoded(challenge) !== draft.challenge) {
    throw new Error("The server asked for a signature over other texts than it showed. Nothing was signed.");
  }
  const found = await navigator.credentials.get({ publicKey: {
    challenge, rpId: draft.rp_id, userVerification: "required", timeout: 120000,
    allowCredentials: [{ type: "public-key", id: decoded(draft.credential_id) }],
  } });
  const assertion = { id: found.id, rawId: found.id, type: found.type, response: {
    clientDataJSON: encoded(found.response.clientDataJSON),
    authenticatorData: encoded(found.response.authenticatorData),
    signature: encoded(found.response.signature),
  } };
  return call(`/reviews/${candidate}/decisions`, { said: draft.said, assertion });
}

async function decide(decision) {
  const status = byId("status"), candidate = card.dataset.candidate;
  status.textContent = "Verifying the candidate …";
  try {
    const draft = await call(`/reviews/${candidate}/drafts`, { decision, comment: byId("comment").value.trim() });
    status.textContent = "";
    show(draft);
    byId("sign-now").onclick = async () => {
      byId("sign-now").disabled = true;
      byId("sign-status").textContent = "Touch your passkey …";
      try {
        const done = await sign(candidate, draft);
        dialog.close();
        status.textContent = done.note || "Signed and kept.";
        if (!done.note) location.reload();
      } catch (error) {
        byId("sign-status").textContent = error.message;
      } finally {
        byId("sign-now").disabled = false;
      }
    };
  } catch (error) {
    status.textContent = error.message;
  }
}

for (const button of card?.querySelectorAll("button[data-decision]") ?? []) {
  button.addEventListener("click", () => decide(button.dataset.decision));
}
