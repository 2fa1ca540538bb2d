// The console's only script: hears from the datasite that something is new, and then fetches the page's live parts. Where
// it can hear no events it asks every few seconds. Everything works without it, by reloading. It writes no markup of its own.
"use strict";

const every = 3000;
let stamp = document.body.dataset.stamp;
let stream = null;
let timer = 0;

const menu = document.querySelector(".menu");
if (menu && window.matchMedia("(max-width: 900px)").matches) menu.open = false;

for (const field of document.querySelectorAll("[data-submit]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}

function isBusy(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, button")
    || part.querySelector("details[open]") !== null;
}

function fetchPage(done) {
  const request = new XMLHttpRequest();
  request.open("GET", window.location.href);
  request.setRequestHeader("X-Live", "1");
  request.responseType = "document"; // parsed by the browser; scripts in it do not run
  request.onload = () => { if (request.status === 200 && request.response) done(request.response); };
  request.send();
}

function refresh(page) {
  const fresh = page.querySelectorAll("[data-live]");
  document.querySelectorAll("[data-live]").forEach((part, index) => {
    if (fresh[index] && !isBusy(part)) part.replaceWith(document.adoptNode(fresh[index]));
  });
  for (const name of [".lead", ".menu nav"]) {
    const [old, now] = [document.querySelector(name), page.querySelector(name)];
    if (old && now && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(now));
  }
}

function leave() {
  window.location.assign("/sign-in");
}

function hear(news) {
  document.title = document.title.replace(/^\(\d+\) /, "");
  if (news.waiting) document.title = `(${news.waiting}) ${document.title}`;
  if (news.stamp !== stamp && document.querySelector("[data-live]")) fetchPage((page) => {
    stamp = news.stamp;
    refresh(page);
  });
}

async function look() {
  try {
    const answer = await fetch("/live", { headers: { Accept: "application/json" } });
    if (answer.status === 401) { leave(); return; }
    if (answer.ok) hear(await answer.json());
  } catch { /* the datasite is away; the next look may find it */ }
  poll();
}

function poll() {
  stop();
  timer = window.setTimeout(look, document.hidden ? 10 * every : every);
}

function stop() {
  window.clearTimeout(timer);
  if (stream) stream.close();
  stream = null;
}

function listen() {
  stop();
  stream = new EventSource("/events");
  stream.addEventListener("message", (event) => hear(JSON.parse(event.data)));
  stream.addEventListener("over", leave);
  stream.addEventListener("enough", poll);
  stream.addEventListener("error", () => { if (stream && stream.readyState === EventSource.CLOSED) poll(); });
}

// A page that nobody sees holds no stream: browsers open only a few connections to one place.
function begin() {
  if (document.hidden || !("EventSource" in window)) poll();
  else listen();
}

document.addEventListener("visibilitychange", begin);
window.addEventListener("pagehide", stop);
window.addEventListener("pageshow", (event) => { if (event.persisted) begin(); });
begin();

// A round under way: seconds since it began, against what its dry run took.
window.setInterval(() => {
  for (const bar of document.querySelectorAll("progress[data-began]")) {
    bar.value = Date.now() / 1000 - Number(bar.dataset.began);
  }
}, 1000);
