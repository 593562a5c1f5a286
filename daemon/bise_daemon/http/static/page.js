// One conversation, and what the device says of itself. All text goes in as text, never as HTML.
"use strict";

const POLL_MS = 1000;
const STATES = { SERVING: "good", LOADING: "warn", DRAINING: "warn", FAILED: "bad" };

const $ = (id) => document.getElementById(id);
const say = (id, text) => { $(id).textContent = text; };
const ms = (value) => `${Math.round(value).toLocaleString("en")} ms`;
const size = (bytes) => {
  const mib = Number(bytes) / 2 ** 20;
  return mib < 1000 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
};

let messages = [];
let running = null; // of the answer that is being written
let status = null;
let usedTokens = 0;
const refusals = new Map(); // by reason: how many, when last, what it said

// The conversation

function addTurn(kind, text) {
  $("empty")?.remove();
  const turn = document.createElement("div");
  turn.className = `turn ${kind}`;
  const body = document.createElement("div");
  body.className = "text";
  body.textContent = text;
  const note = document.createElement("p");
  note.className = "note";
  turn.append(body, note);
  $("log").append(turn);
  follow(true);
  return { turn, body, note };
}

function follow(always = false) {
  const log = $("log");
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight;
}

function asked() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const budget = { total_ms: number("total"), first_token_ms: number("first"), per_token_ms: number("each") };
  return {
    model: status.model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: number("tokens"),
    temperature: number("temperature") ?? 0,
    bise: { budget, priority: $("priority").value.toUpperCase() },
  };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection ended before the answer did");
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.reason = error.reason;
    this.retryAfterMs = error.retry_after_ms;
  }
}

async function answer(shown) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(asked()),
    signal: running.signal,
  });
  if (!response.ok) throw new Refused((await response.json()).error);
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Refused(chunk.error);
    if (chunk.bise?.accepted) showPromise(chunk.bise.accepted);
    const text = chunk.choices[0]?.delta.content;
    if (text) {
      shown.body.append(text);
      follow();
    }
    if (chunk.bise?.done) showOutcome(chunk.bise.done, shown.note);
  }
}

function showPromise(accepted) {
  say("first-predicted", ms(accepted.predicted_first_token_ms));
  say("total-predicted", ms(accepted.predicted_total_ms));
  say("tokens-granted", accepted.granted_max_tokens.toLocaleString("en"));
  for (const id of ["first-actual", "total-actual", "tokens-actual"]) say(id, "…");
}

function showOutcome(done, note) {
  const { usage, timings } = done;
  say("first-actual", ms(timings.first_token_ms));
  say("total-actual", ms(timings.total_ms));
  say("tokens-actual", usage.completion_tokens.toLocaleString("en"));
  usedTokens = usage.prompt_tokens + usage.completion_tokens;
  showUsed();
  const ending = { STOP: "", STOP_SEQUENCE: "", LENGTH: "cut at the most tokens", DEADLINE: "cut at its deadline" };
  const parts = [
    `${usage.completion_tokens} tokens in ${ms(timings.total_ms)}`,
    `first after ${ms(timings.first_token_ms)}`,
    ending[done.finish_reason] ?? done.finish_reason,
  ];
  note.textContent = parts.filter(Boolean).join(" · ");
}

async function send() {
  const text = $("prompt").value.trim();
  if (!text || running || !status?.model) return;
  $("prompt").value = "";
  messages.push({ role: "user", content: text });
  addTurn("user", text);
  const shown = addTurn("assistant waiting", "");
  running = new AbortController();
  setBusy(true);
  try {
    await answer(shown);
    messages.push({ role: "assistant", content: shown.body.textContent });
  } catch (error) {
    failed(error, text, shown);
  } finally {
    running = null;
    shown.turn.classList.remove("waiting");
    setBusy(false);
  }
}

function failed(error, text, shown) {
  const begun = shown.body.textContent;
  if (begun) messages.push({ role: "assistant", content: begun });
  else messages.pop();
  if (error.name === "AbortError") {
    shown.note.textContent = "stopped";
    return;
  }
  shown.turn.classList.add("refused");
  if (!begun) $("prompt").value ||= text;
  if (error instanceof Refused) {
    const wait = error.retryAfterMs == null ? "" : ` Try again in ${ms(error.retryAfterMs)}.`;
    shown.note.textContent = `${error.reason}.${wait}`;
    noteRefusal(error.reason, 0, error.message);
  }
  shown.body.textContent = begun ? `${begun}\n${error.message}` : error.message;
  follow(true);
}

function setBusy(busy) {
  $("send").disabled = busy;
  $("fresh").disabled = busy;
  $("stop").disabled = !busy;
  $("log").setAttribute("aria-busy", String(busy));
  if (!busy) $("prompt").focus();
}

function fresh() {
  messages = [];
  usedTokens = 0;
  $("log").replaceChildren();
  showUsed();
  $("prompt").focus();
}

// The device

function showUsed() {
  say("used", usedTokens && status ? `${usedTokens} of ${status.context_limit} tokens` : "");
}

function gauge(id, text, value, most) {
  say(id, text);
  const meter = $(`${id}-meter`);
  Object.assign(meter, { min: 0, max: Math.max(1, most), low: 0.75 * most, high: 0.9 * most, optimum: 0 });
  meter.value = value;
}

function showStatus() {
  const count = (name) => Number(status[name]);
  const percent = (share) => `${Math.round(100 * share)} %`;
  say("model", `${status.model} ${status.model_version}`.trim());
  say("context", `${status.context_limit.toLocaleString("en")} tokens`);
  gauge("slots", `${status.slots_used} of ${status.slots}, ${status.queued} waiting`, status.slots_used, status.slots);
  gauge("cache", `${size(status.kv_used_bytes)} of ${size(status.kv_budget_bytes)}`, count("kv_used_bytes"),
    count("kv_budget_bytes"));
  const rss = count("rss_bytes");
  const free = count("memory_available_bytes");
  gauge("memory", `${size(rss)}, ${size(free)} free`, rss, rss + free);
  say("level", status.memory_level.toLowerCase());
  say("steps", `${percent(status.step_time_ratio_p50)}, p90 ${percent(status.step_time_ratio_p90)}`);
  const error = status.first_token_error;
  say("errors", error?.samples >= 10 ? `${percent(error.p50)}, p90 ${percent(error.p90)}` : "nothing yet");
  const met = count("budgets_met");
  say("kept", `${met} of ${met + count("budgets_missed")}`);
  for (const [reason, total] of Object.entries(status.refusals)) noteRefusal(reason, Number(total));
  showUsed();
}

function noteRefusal(reason, total, message) {
  const known = refusals.get(reason) ?? { total: 0, at: null, message: "" };
  // What was refused before the page was opened has a number, but no time.
  if (message || (status.seen && total > known.total)) known.at = Date.now();
  known.total = Math.max(total, known.total);
  known.message = message ?? known.message;
  refusals.set(reason, known);
  showRefusals();
}

function showRefusals() {
  const items = [...refusals].sort(([, one], [, other]) => (other.at ?? 0) - (one.at ?? 0)).map(([reason, known]) => {
    const item = document.createElement("li");
    const name = document.createElement("strong");
    name.textContent = reason;
    const note = document.createElement("p");
    note.className = "note";
    const when = known.at ? `last ${Math.round((Date.now() - known.at) / 1000)} s ago` : "before this page was opened";
    note.textContent = `${Math.max(1, known.total)}×, ${when}. ${known.message}`;
    item.append(name, note);
    return item;
  });
  if (items.length) $("refusals").replaceChildren(...items);
}

async function poll() {
  let state = "unreachable";
  try {
    const response = await fetch("status");
    const seen = status !== null;
    status = { ...(await response.json()), seen };
    state = status.state;
    if (status.model) showStatus();
  } catch {
    // The pill says so, and the next poll may do better.
  }
  say("state", state.toLowerCase());
  $("state").className = `pill ${STATES[state] ?? "bad"}`;
}

async function watch() {
  if (!document.hidden) await poll();
  setTimeout(watch, POLL_MS);
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("stop").addEventListener("click", () => running?.abort());
$("fresh").addEventListener("click", fresh);
$("toggle").addEventListener("click", () => {
  const open = document.body.classList.toggle("device");
  $("toggle").setAttribute("aria-expanded", String(open));
});
watch();
