// The document, and what the board answers.
//
// It never puts anything into the page but text.

export const here = location.href.replace(/[?#].*$/, "");
export const $ = (id) => document.getElementById(id);
export const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);
export const text = (node, words) => {
  if (node.textContent !== words) node.textContent = words;
};
export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

// What the board answers, as JSON; or why it does not: {status, reason, retry}.
export async function ask(path, how) {
  const answer = await fetch(path, { cache: "no-store", ...how });
  if (answer.ok) return answer.json();
  // Only the board's own words: a proxy's are a page.
  const isPlain = /^text\/plain/.test(answer.headers.get("Content-Type"));
  throw Object.assign(new Error(), { status: answer.status,
    reason: isPlain ? (await answer.text()).trim() : "",
    retry: Number(answer.headers.get("Retry-After")) * 1000 });
}
