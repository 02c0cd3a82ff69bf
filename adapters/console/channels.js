// Channels: durable topics, and how far each of their subscribers is.

import { get, poll } from "./api.js";
import { count, el, pairs, table, tag } from "./dom.js";

const PERIOD_MS = 2000;

function link({ system, topic }) {
  return el("a", { class: "mono", href: `#/channels/${encodeURIComponent(system)}/${encodeURIComponent(topic)}` }, `${system}/${topic}`);
}

const behind = (lag) => (lag > 0 ? tag(`${count(lag)} behind`, "warn") : tag("has all", "good"));

export function channels(main, view) {
  const [system, topic] = view.parts;
  const shown = el("div", { "aria-live": "off" });
  main.append(el("h1", { class: topic ? "mono" : "" }, topic ? `${system}/${topic}` : "Channels"), shown);
  poll(shown, PERIOD_MS, view, () => (topic ? one(system, topic) : all()));
}

async function all() {
  const found = (await get("/api/v1/channels")).channels;
  const columns = [
    ["topic", "", link],
    ["newest event", "num", (topic) => count(topic.newest)],
    ["subscribers", "num", (topic) => count(topic.subscribers)],
    ["the slowest", "", (topic) => (topic.subscribers ? behind(topic.lag) : "–")],
    ["missed since the start", "num", (topic) => count(topic.missed)],
  ];
  return [
    el("p", { class: "soft" }, "Durable topics that are in use. Other topics keep nothing."),
    table("Channels", columns, found, "No durable topic is in use: TIDEGATE_DURABLE_TOPICS names them."),
  ];
}

async function one(system, topic) {
  const path = `/api/v1/system/${encodeURIComponent(system)}/channels/${encodeURIComponent(topic)}/subscribers`;
  const { channel, subscribers, next } = await get(`${path}?limit=100`);
  const columns = [
    ["subscriber", "", ({ actor }) => el("a", { class: "mono", href: `#/actors/${encodeURIComponent(system)}/${encodeURIComponent(actor)}` }, actor)],
    ["answered up to", "num", ({ position }) => count(position)],
    ["(lag)", "", ({ lag }) => behind(lag)],
  ];
  return [
    pairs([["newest event", channel.newest], ["subscribers", channel.subscribers], ["missed since the start", channel.missed]]),
    el("h2", {}, next ? "The first 100 subscribers" : "Subscribers"),
    table("Subscribers", columns, subscribers, "Nobody subscribes."),
  ];
}
