// Refreshes figures in place: fetches the page itself and swaps the marked parts that changed. Without script, the page
// is complete; it only has to be reloaded.
"use strict";

const PERIOD_MS = 2000;
let known = "";

async function refresh() {
  const headers = known ? { "if-none-match": known } : {};
  const answer = await fetch(location.href, { headers, cache: "no-store" });
  if (answer.status !== 200) return;
  known = answer.headers.get("etag") ?? "";
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    if (!now || now.innerHTML === old.innerHTML) continue;
    old.replaceChildren(...now.childNodes);
    old.classList.add("fresh");
  }
}

async function follow() {
  const away = document.hidden;
  const shown = await (away ? true : refresh().then(() => true, () => false));
  document.body.classList.toggle("stale", !shown);
  setTimeout(follow, PERIOD_MS);
}

document.addEventListener("animationend", (event) => event.target.classList.remove("fresh"));
setTimeout(follow, PERIOD_MS);
