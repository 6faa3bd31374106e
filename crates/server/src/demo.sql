-- Four views over the stream of auctions of the Nexmark benchmark.
CREATE SOURCE bid WITH (
    connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.split.num = '$splits'
);

CREATE SOURCE person WITH (
    connector = 'nexmark', nexmark.table.type = 'Person', nexmark.split.num = '$splits'
);

CREATE MATERIALIZED VIEW bids_per_auction AS
    SELECT auction, count(*) AS bids, max(price) AS highest, avg(price) AS average
    FROM bid
    GROUP BY auction;

CREATE MATERIALIZED VIEW bids_per_minute AS
    SELECT window_start, count(*) AS bids, sum(price) AS volume
    FROM TUMBLE(bid, date_time, INTERVAL '1' MINUTE)
    GROUP BY window_start;

-- The last ten minutes, every minute.
CREATE MATERIALIZED VIEW busy_channels AS
    SELECT channel, window_start, count(*) AS bids
    FROM HOP(bid, date_time, INTERVAL '1' MINUTE, INTERVAL '10' MINUTE)
    GROUP BY channel, window_start;

CREATE MATERIALIZED VIEW people_per_state AS
    SELECT state, count(*) AS people
    FROM person
    GROUP BY state;
