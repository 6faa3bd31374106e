//! Settings that a client brings with it are those of its session from the start, and what it goes back to.

use crate::server::{Server, runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

async fn shown(client: &Client, setting: &str) -> String {
    let messages = client.simple_query(&format!("SHOW {setting}")).await.expect("it is known");
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.expect("a row").to_owned()
}

#[test]
fn a_session_goes_back_to_what_it_began_with() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let own = "options='-c statement_timeout=7s --timezone=Europe/Berlin' application_name=own";
        let config = format!("host=127.0.0.1 port={} user=tester dbname=any {own}", server.pg);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
        tokio::spawn(connection);
        let settings = [("statement_timeout", "7s"), ("timezone", "Europe/Berlin"), ("application_name", "own")];
        // The last of them is what asyncpg's pools ask of a connection that comes back.
        let resets = [
            "SELECT 1",
            "DISCARD ALL",
            "RESET statement_timeout; SET TIME ZONE DEFAULT; RESET application_name",
            "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
        ];
        for reset in resets {
            client.batch_execute(reset).await.expect(reset);
            for (setting, value) in settings {
                assert_eq!(shown(&client, setting).await, value, "{setting} after {reset}");
            }
            let others = "SET statement_timeout TO '9s'; SET TIME ZONE 'Asia/Tokyo'; SET application_name TO 'other'";
            client.batch_execute(others).await.expect("set");
        }
    });
    server.stop();
}
