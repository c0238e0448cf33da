// A platform's end of Assay's webhooks: verify, answer at once, work afterwards, handle each id once.
//
//   npm install standardwebhooks
//   WEBHOOK_SECRET=whsec_... node receiver.mjs 8080
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // a table with a unique key, in earnest: an event may come more than once

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString(); // as it came: parsed and printed again, it would not verify
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(400).end();
    return;
  }
  response.writeHead(204).end();
  const id = request.headers["webhook-id"];
  if (!seen.has(id)) {
    seen.add(id);
    console.log(JSON.stringify({ type: event.type, id: event.data.id, client_ref: event.data.client_ref }));
  }
}).listen(Number(process.argv[2]), "127.0.0.1");
