// Follows one execution: its fields, and its output by long polling from byte to byte.
// ansi_up escapes everything that it does not make a colour of.
import { AnsiUp } from "./vendor/ansi_up.js";

const SHOWN = 256 * 1024; // bytes of earlier output that are shown, and more or less kept
const WAIT = 25; // seconds that the server may wait for more
const AGAIN = 2000; // milliseconds after which a call that failed is made again

const address = document.body.dataset.execution;
const find = (id) => document.getElementById(id);
const output = find("output");
const colours = new AnsiUp();
colours.use_classes = true;
const decoder = new TextDecoder(); // keeps half a character until the rest comes
let following = true;

async function call(url, options) {
  const answer = await fetch(url, options);
  if (answer.ok || answer.status === 409) return answer;
  const { detail } = await answer.json().catch(() => ({}));
  throw new Error(detail || `${answer.status} ${answer.statusText}`);
}

function show(execution) {
  const ended = !["pending", "running"].includes(execution.status);
  find("status").textContent = execution.status;
  find("status").className = execution.status;
  find("reason").textContent =
    execution.error || (execution.cancel_requested_at && !ended ? "cancel requested" : "");
  for (const name of ["started_at", "running_at", "completed_at"]) {
    const time = execution[name];
    find(name).textContent = time ? new Date(time).toLocaleString() : "–";
  }
  find("exit_code").textContent = execution.exit_code ?? "–";
  find("worker").textContent = execution.worker ?? "–";
  find("output_size").textContent = `${execution.output_size.toLocaleString()} bytes`;
  find("cancel").hidden = ended || execution.cancel_requested_at !== null;
  find("retry").hidden = !ended;
  return ended;
}

function append(bytes, last) {
  const text = decoder.decode(bytes, { stream: !last });
  if (!text) return;
  const part = document.createElement("span");
  // Styles in markup are held back by the page's policy, those that a script sets are not. A
  // quotation mark of the output itself is escaped, so that only ansi_up's own are meant.
  part.innerHTML = colours.ansi_to_html(text).replaceAll(' style="', ' data-style="');
  for (const each of part.querySelectorAll("[data-style]")) each.style = each.dataset.style;
  output.append(part);
  let length = output.textContent.length;
  while (length > 4 * SHOWN && output.firstChild !== part) {
    length -= output.firstChild.textContent.length;
    output.firstChild.remove();
  }
  if (following) output.scrollTop = output.scrollHeight;
}

async function follow() {
  let execution = await (await call(address)).json();
  let offset = Math.max(execution.output_size - SHOWN, 0);
  let ended = show(execution);
  for (;;) {
    const answer = await call(`${address}/output?offset=${offset}&wait=${ended ? 0 : WAIT}`);
    const bytes = await answer.arrayBuffer();
    offset = Number(answer.headers.get("X-Output-Offset"));
    append(bytes, ended);
    if (ended && offset >= execution.output_size) return;
    execution = await (await call(address)).json();
    ended = show(execution);
  }
}

async function keepFollowing() {
  for (;;) {
    try {
      await follow();
      find("problem").hidden = true;
      return;
    } catch (error) {
      find("problem").textContent = `${error.message} – trying again`;
      find("problem").hidden = false;
      await new Promise((wake) => setTimeout(wake, AGAIN));
      output.replaceChildren(); // begins anew
      find("problem").hidden = true;
    }
  }
}

async function steer(name) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
  try {
    const answer = await call(`${address}/${name}`, { method: "POST", headers, body: "{}" });
    const execution = await answer.json();
    if (name === "retry") location = document.body.dataset.watch.replace("ID", execution.id);
    else if (answer.ok) show(execution);
  } catch (error) {
    find("problem").textContent = error.message;
    find("problem").hidden = false;
  }
}

find("follow").addEventListener("click", () => {
  following = !following;
  find("follow").textContent = following ? "Pause" : "Follow";
  find("follow").setAttribute("aria-pressed", following);
  if (following) output.scrollTop = output.scrollHeight;
});
find("cancel").addEventListener("click", () => steer("cancel"));
find("retry").addEventListener("click", () => steer("retry"));
keepFollowing();
