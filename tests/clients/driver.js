// What node-postgres does with a server: parameters of all types in text and binary, prepared
// statements, portals with row limits, transactions, cursors, notices, cancelling, errors, a pool.
// The argument is the server's port.
const assert = require('assert');
const { Client, Pool } = require('pg');

const config = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'js', database: 'any' };
// By column: PostgreSQL's type, a value, and what comes back when that is something else.
const TYPES = {
  small: ['smallint', -7],
  medium: ['int', 70000],
  big: ['bigint', '9007199254740993'],
  single: ['real', 0.5],
  double: ['double precision', -2.25e300],
  exact: ['numeric(20, 4)', '-12345678.9012'],
  word: ['varchar', "it's \t\\ ünï €"],
  yes: ['boolean', true],
  bytes: ['bytea', Buffer.from([0, 1, 92, 255])],
  clock: ['time', '23:59:59.999999'],
  instant: ['timestamptz', new Date('2024-02-29T12:34:56.789Z')],
};

const refused = (promise, code, position) =>
  assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code, error.message);
    if (position) assert.strictEqual(error.position, position);
    return true;
  });

async function types(client) {
  const columns = Object.entries(TYPES).map(([name, [type]]) => `${name} ${type}`).join(', ');
  await client.query(`CREATE TABLE js_kinds (id int PRIMARY KEY, ${columns})`);
  const values = Object.values(TYPES).map(([, value]) => value);
  const marks = values.map((_, i) => `$${i + 1}`).join(', ');
  await client.query(`INSERT INTO js_kinds VALUES (1, ${marks})`, values);
  await client.query(`INSERT INTO js_kinds VALUES (2, ${marks})`, values.map(() => null));
  const { rows, fields } = await client.query('SELECT * FROM js_kinds WHERE id <= $1 ORDER BY id', [2]);
  assert.deepStrictEqual(fields.slice(1).map((field) => field.dataTypeID), [21, 23, 20, 700, 701, 1700, 25, 16, 17, 1083, 1184]);
  const expected = Object.fromEntries(Object.entries(TYPES).map(([name, [, value]]) => [name, value]));
  assert.deepStrictEqual(rows[0], { id: 1, ...expected });
  assert.deepStrictEqual(Object.values(rows[1]), [2, ...values.map(() => null)]);
}

async function statements(client) {
  await client.query('CREATE TABLE js (id bigint PRIMARY KEY, name text, n int, price double precision)');
  await client.query('CREATE MATERIALIZED VIEW js_sum AS SELECT count(*) AS c, sum(n) AS s FROM js');
  for (let i = 0; i < 50; i++) {
    const put = await client.query({ name: 'put', text: 'INSERT INTO js VALUES ($1, $2, $3, $4)', values: [i, `name ${i}`, i, i / 4] });
    assert.strictEqual(put.rowCount, 1);
  }
  const one = await client.query('SELECT id, name, n, price FROM js WHERE id = $1', [7]);
  assert.deepStrictEqual(one.rows, [{ id: '7', name: 'name 7', n: 7, price: 1.75 }]);
  const returned = await client.query('UPDATE js SET price = $1 WHERE id < $2 RETURNING id, price', [1, 2]);
  assert.deepStrictEqual(returned.rows, [{ id: '0', price: 1 }, { id: '1', price: 1 }]);
  // A portal that gives seven rows at a time.
  const portal = await client.query({ text: 'SELECT id FROM js WHERE id >= $1 ORDER BY id', values: [0], rows: 7 });
  assert.deepStrictEqual(portal.rows.map((row) => Number(row.id)), Array.from({ length: 50 }, (_, i) => i));
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS b; SHOW search_path');
  assert.deepStrictEqual(several.map((result) => result.rows[0]), [{ a: 1 }, { b: 2 }, { search_path: 'public' }]);
  assert.strictEqual((await client.query('')).rows.length, 0);
}

async function transactions(client) {
  await client.query('BEGIN');
  const changed = await client.query('UPDATE js SET n = n + 1 WHERE id >= $1', [40]);
  assert.strictEqual(changed.rowCount, 10);
  await client.query('COMMIT');
  await client.query('FLUSH');
  const sum = await client.query('SELECT c, s FROM js_sum');
  assert.deepStrictEqual(sum.rows, [{ c: '50', s: '1235' }]);
  await client.query('BEGIN');
  await client.query('DELETE FROM js WHERE id < $1', [10]);
  await refused(client.query('INSERT INTO js (id) VALUES ($1)', [20]), '23505');
  await refused(client.query('SELECT $1::int', [1]), '25P02');
  await refused(client.query('SELECT 1'), '25P02');
  assert.strictEqual((await client.query('COMMIT')).command, 'ROLLBACK');
  // Several statements at once are one transaction.
  await refused(client.query('DELETE FROM js WHERE id = 1; SELECT 1 / 0'), '22012');
  await client.query('BEGIN');
  await client.query('DECLARE c CURSOR FOR SELECT id FROM js ORDER BY id');
  assert.strictEqual((await client.query('FETCH 3 FROM c')).rows.length, 3);
  assert.deepStrictEqual((await client.query('FETCH NEXT FROM c')).rows, [{ id: '3' }]);
  assert.strictEqual((await client.query('FETCH ALL c')).rows.length, 46);
  await client.query('ROLLBACK');
  assert.deepStrictEqual((await client.query('SELECT count(*) AS c FROM js')).rows, [{ c: '50' }]);
}

async function errorsAndNotices(client) {
  await refused(client.query('SELECT nothing FROM js'), '42703', '8');
  await refused(client.query('SELECT id, nothing FROM js WHERE id = $1', [1]), '42703', '12');
  await refused(client.query('SELECT * FROM js WHERE id = $1', ['seven']), '22P02');
  await refused(client.query('SELECT $1::int', ['9999999999']), '22003');
  const heard = [];
  client.on('notice', (notice) => heard.push(`${notice.severity} ${notice.message}`));
  await client.query('DROP TABLE IF EXISTS nothing_of_this_name');
  assert.match(heard.join('\n'), /^NOTICE .*does not exist/);
  // Cancelled from another connection, again and again, because a request may come too early.
  const query = { text: 'SELECT count(*) FROM js a, js b, js c, js d, js e, js f WHERE a.id + f.n = $1', values: [-1] };
  const cancel = () => {
    const other = new Client(config);
    other.connection.on('error', () => {});
    other.connection.connect(config.port, config.host);
    other.connection.on('connect', () => other.connection.cancel(client.processID, client.secretKey));
  };
  const timer = setInterval(cancel, 50);
  await refused(client.query(query), '57014');
  clearInterval(timer);
}

async function pooled() {
  const pool = new Pool({ ...config, max: 10 });
  const jobs = Array.from({ length: 100 }, (_, i) => pool.query('UPDATE js SET n = 0 WHERE id = $1', [i % 50]));
  await Promise.all(jobs);
  const zero = await pool.query('SELECT count(*) AS c FROM js WHERE n = 0');
  assert.deepStrictEqual(zero.rows, [{ c: '50' }]);
  await pool.end();
}

async function main() {
  const client = new Client(config);
  await client.connect();
  await types(client);
  await statements(client);
  await transactions(client);
  await errorsAndNotices(client);
  await client.end();
  await pooled();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
