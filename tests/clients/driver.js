// What node-postgres does with a server: prepared statements, transactions, errors, many at once.
const assert = require('assert');
const { Client, Pool } = require('pg');

const config = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'js', database: 'any' };

async function main() {
  const client = new Client(config);
  await client.connect();
  await client.query('CREATE TABLE js (id bigint PRIMARY KEY, name text, n int, price double precision)');
  await client.query('CREATE MATERIALIZED VIEW js_sum AS SELECT count(*) AS c, sum(n) AS s FROM js');
  for (let i = 0; i < 50; i++) {
    await client.query({ name: 'put', text: 'INSERT INTO js VALUES ($1, $2, $3, $4)', values: [i, `name ${i}`, i, i / 4] });
  }
  const one = await client.query('SELECT id, name, n, price FROM js WHERE id = $1', [7]);
  assert.deepStrictEqual(one.rows, [{ id: '7', name: 'name 7', n: 7, price: 1.75 }]);
  await client.query('BEGIN');
  const changed = await client.query('UPDATE js SET n = n + 1 WHERE id >= $1', [40]);
  assert.strictEqual(changed.rowCount, 10);
  await client.query('COMMIT');
  await client.query('FLUSH');
  const sum = await client.query('SELECT c, s FROM js_sum');
  assert.deepStrictEqual(sum.rows, [{ c: '50', s: '1235' }]);
  await assert.rejects(client.query('SELECT nothing FROM js'), (error) => error.code === '42703' && error.position === '8');
  const pool = new Pool({ ...config, max: 10 });
  const jobs = Array.from({ length: 100 }, (_, i) => pool.query('UPDATE js SET n = 0 WHERE id = $1', [i % 50]));
  await Promise.all(jobs);
  const zero = await client.query('SELECT count(*) AS c FROM js WHERE n = 0');
  assert.deepStrictEqual(zero.rows, [{ c: '50' }]);
  await pool.end();
  await client.query('DROP TABLE js CASCADE');
  await client.end();
  console.log('done');
}

main().catch((error) => { console.error(error); process.exit(1); });
