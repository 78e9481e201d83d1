// What scrolls can be reached by the keyboard, what is hidden cannot, and the search has a name.
function reachable() {
  document.querySelector(".md-search[role='dialog']")?.setAttribute("aria-label", "Search");
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .highlight code, .md-sidebar__scrollwrap, .md-typeset p:has(> img[src$='.svg'])")) {
    if (box.tabIndex < 0) box.tabIndex = 0;
  }
  for (const hidden of document.querySelectorAll("[aria-hidden='true'], .md-toggle")) {
    if (hidden.matches("input")) hidden.tabIndex = -1;
    for (const input of hidden.querySelectorAll("input, button, a")) input.tabIndex = -1;
  }
}
document.addEventListener("DOMContentLoaded", () => { reachable(); setTimeout(reachable, 300); setTimeout(reachable, 1500); });
new MutationObserver(reachable).observe(document.documentElement, { childList: true, subtree: true });
