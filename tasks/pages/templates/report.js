"use strict";
// Videos are loaded when they come near the window and let go when they leave it: a page of thousands stays light.
let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
const videos = [...document.querySelectorAll("video")];
const play = (video) => video.play().catch(() => {});
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.toggleAttribute("data-near", isIntersecting);
    if (isIntersecting) {
      if (target.dataset.poster) target.poster = target.dataset.poster;
      if (!target.hasAttribute("src")) target.src = target.dataset.src;
      if (!paused) play(target);
    } else if (target.hasAttribute("src")) {
      target.pause(); target.removeAttribute("src"); target.load();
    }
  }
}, { rootMargin: "300px" });
for (const video of videos) {
  near.observe(video);
  video.addEventListener("click", () => (video.paused ? play(video) : video.pause()));
}
const stops = [...document.querySelectorAll(".media > [tabindex]")];
document.addEventListener("keydown", (event) => {
  const here = event.target.closest(".media > [tabindex]");
  if (!here) return;
  if ((event.key === " " || event.key === "Enter") && here.tagName === "VIDEO") {
    event.preventDefault();
    if (here.paused) play(here); else here.pause();
  }
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  for (let at = stops.indexOf(here) + step; stops[at]; at += step) {
    if (!stops[at].isConnected || stops[at].closest("[hidden]")) continue;
    stops[at].focus();
    break;
  }
});
const button = document.getElementById("pause");
const show = () => { button.textContent = paused ? "play videos" : "pause videos"; button.setAttribute("aria-pressed", String(paused)); };
button.addEventListener("click", () => {
  paused = !paused; show();
  for (const video of videos) if (paused) video.pause(); else if (video.hasAttribute("data-near")) play(video);
});
show();
const form = document.querySelector("form.filters");
const sections = [...document.querySelectorAll("section.identity")].map((section) => [section, [...section.querySelectorAll("li.card")]]);
const listed = new Map(sections.map(([section, cards]) => [section, cards]));
const filter = () => {
  const { identity = "", status = "", tag = "", words = "" } = Object.fromEntries(new FormData(form));
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [section, cards] of sections) {
    const fitting = cards.filter((card) => {
      const { status: its, tags, words: text } = card.dataset;
      return (!identity || section.dataset.identity === identity) && (!status || its === status || (status === "doubtful" && "doubt" in card.dataset))
        && (!tag || tags.split("\n").includes(tag)) && wanted.every((word) => text.includes(word));
    });
    // Taken out, not hidden: a browser takes seconds to hide a thousand videos, and an instant to let go of them.
    if (fitting.length !== listed.get(section).length || fitting.some((card, at) => card !== listed.get(section)[at])) {
      section.querySelector("ul").replaceChildren(...fitting);
      listed.set(section, fitting);
    }
    section.hidden = !fitting.length; count += fitting.length;
  }
  document.getElementById("count").textContent = `${count} variant${count === 1 ? "" : "s"} shown.`;
};
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
