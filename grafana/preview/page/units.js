// Values as Grafana writes them, for the units that the dashboards use.
"use strict";

function digits(value, decimals) {
  if (decimals !== undefined && decimals !== null) return value.toFixed(decimals);
  const size = Math.abs(value);
  const places = size === 0 ? 0 : size < 0.01 ? 4 : size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0;
  return String(Number(value.toFixed(places)));
}

function scaled(value, steps, decimals) {
  // From the largest unit that the value reaches.
  const size = Math.abs(value);
  const [factor, name] = steps.find(([each]) => size >= each) || steps[steps.length - 1];
  return digits(value / factor, decimals) + name;
}

const SHORT = [[1e9, " Bil"], [1e6, " Mil"], [1e3, " K"], [1, ""]];
const SECONDS = [[86400, " day"], [3600, " hour"], [60, " min"], [1, " s"], [1e-3, " ms"], [1e-6, " µs"]];
const BYTES = [[2 ** 30, " GiB"], [2 ** 20, " MiB"], [2 ** 10, " KiB"], [1, " B"]];
const DURATION = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

function duration(value) {
  const parts = [];
  let rest = Math.round(Math.max(0, value));
  for (const [seconds, name] of DURATION) {
    const count = Math.floor(rest / seconds);
    if (count && parts.length < 2) parts.push(`${count} ${name}${count === 1 ? "" : "s"}`);
    rest -= count * seconds;
    if (parts.length && !count) break;
  }
  return parts.join(", ") || "0 seconds";
}

const UNITS = {
  short: (value, decimals) => scaled(value, SHORT, decimals),
  reqps: (value, decimals) => `${digits(value, decimals)} req/s`,
  ops: (value, decimals) => `${digits(value, decimals)} ops/s`,
  percentunit: (value, decimals) => `${digits(value * 100, decimals)}%`,
  currencyUSD: (value, decimals) => (value < 0 ? "-$" : "$") + scaled(Math.abs(value), SHORT, decimals),
  s: (value, decimals) => value === 0 ? "0 s" : scaled(value, SECONDS, decimals),
  bytes: (value, decimals) => scaled(value, BYTES, decimals),
  dtdurations: duration,
  bool_yes_no: (value) => value ? "Yes" : "No",
  string: String,
};

function written(value, unit, decimals) {
  if (value === null || value === undefined) return "-";
  if (typeof value === "string") return value;
  return UNITS[unit](value, decimals);
}
