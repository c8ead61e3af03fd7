// Reads addresses as programs of Node.js do. In: lines, each a field's value in hexadecimal digits. Out: for each a line
// of JSON, the addresses by module.
const addressparser = require("addressparser");
const lines = require("readline").createInterface({ input: process.stdin });

const flat = (list) => list.flatMap((one) => (one.group ? flat(one.group) : [one.address]));

lines.on("line", (line) => {
  const value = Buffer.from(line, "hex").toString();
  console.log(JSON.stringify({ addressparser: flat(addressparser(value)) }));
});
