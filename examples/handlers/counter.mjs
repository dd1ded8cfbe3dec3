// A counter behind HTTP, with nothing but Node: `node counter.mjs [PORT]`. Operations as in counter.py.
import { createServer } from "node:http";

const description = { name: "counter", version: "node", read_only: ["get"] };
const text = (value) => Buffer.from(value, "base64").toString("latin1");
const bytes = (value) => Buffer.from(String(value)).toString("base64");

// One result for one item: pure, so the same item gives the same result.
function run({ state, operation, value }) {
  const count = state ? state.count : 0;
  if (operation === "get") return { state, answer: bytes(count) };
  if (operation !== "add" && operation !== "process") return { error: "unknown-operation" };
  const given = text(value);
  if (!/^(-?\d+)?$/.test(given)) return { error: "bad-value" };
  const sum = count + (given ? Number(given) : 1);
  // JSON has one kind of number: what is no safe integer would come back as another one.
  if (!Number.isSafeInteger(sum)) return { error: "bad-value" };
  return { state: { count: sum }, answer: bytes(sum) };
}

function answer(response, status, tree) {
  const body = Buffer.from(JSON.stringify(tree));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length });
  response.end(body);
}

const server = createServer((request, response) => {
  if (request.method === "GET") return answer(response, 200, description);
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    try {
      answer(response, 200, { results: JSON.parse(Buffer.concat(pieces)).items.map(run) });
    } catch (error) {
      answer(response, 400, { error: String(error) });
    }
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
