// Help: the same values on a second phone and in a terminal.
//
// It never asks for anything before it is open.
import { $, here } from "./dom.js";

// Open for whoever is here for the first time, once the values are there; then as it was left.
const kept = (act) => {
  try {
    return act(localStorage);
  } catch (_) {
    return "no"; // it may not be used
  }
};
const isOnlyHere = /^(localhost|127\..*|\[::1\])$/.test(location.hostname);
$("only").hidden = !isOnlyHere;
let isWelcome = false;

export function welcome() {
  if (isWelcome) return;
  isWelcome = true;
  $("help").open = $("help").open || kept((store) => store.getItem("encke help")) === null;
}

$("help").addEventListener("toggle", () => {
  const { open } = $("help");
  if (!open) kept((store) => store.setItem("encke help", "seen"));
  // No second phone gets to an address that is only this computer's.
  if (!open || isOnlyHere || $("qr").src) return;
  fetch(`qr.svg?text=${encodeURIComponent(here)}`).then((answer) => answer.ok && answer.text())
    .then((svg) => {
      if (!svg) return;
      $("qr").src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
      $("code").hidden = false;
    }, () => {});
});
