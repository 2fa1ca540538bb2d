// The console's only script: asks every few seconds whether something is new, and then fetches the page's live parts.
// Everything works without it, by reloading. It writes no markup of its own.
"use strict";

const every = 3000;
let stamp = document.body.dataset.stamp;

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

async function look() {
  try {
    const answer = await fetch("/live", { headers: { Accept: "application/json" } });
    if (answer.status === 401) { window.location.assign("/sign-in"); return; }
    if (answer.ok) {
      const news = await answer.json();
      document.title = document.title.replace(/^\(\d+\) /, "");
      if (news.waiting) document.title = `(${news.waiting}) ${document.title}`;
      if (news.stamp !== stamp && document.querySelector("[data-live]")) fetchPage((page) => {
        stamp = news.stamp;
        refresh(page);
      });
    }
  } catch { /* the datasite is away; the next look may find it */ }
  window.setTimeout(look, document.hidden ? 10 * every : every);
}

window.setTimeout(look, every);
