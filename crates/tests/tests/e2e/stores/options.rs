//! What `options` of `postgres.url` set of sessions: it stays set, but for what Waybill cannot do without.

use testkit::sql::column;
use testkit::wire::a_ride;
use testkit::{Rig, ServerProcess, until_eq};

/// Notes how the sessions are set that accept orders.
const NOTE: &str = "
    create table settings_seen (seen text primary key);
    create function note_settings() returns trigger language plpgsql as $$
    begin
        insert into settings_seen
        select string_agg(name || '=' || current_setting(name), ', ' order by name)
          from unnest('{default_transaction_isolation, enable_seqscan, idle_in_transaction_session_timeout, lock_timeout,
                        statement_timeout, transaction_isolation, work_mem}'::text[]) as setting (name)
            on conflict do nothing;
        return null;
    end $$;
    create trigger note_settings after insert on order_sagas for each statement execute function note_settings();";

#[tokio::test]
async fn what_the_url_sets_of_sessions_stays_set_but_for_what_they_need() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute(NOTE).await;
    let options = [
        "work_mem=7MB",
        "default_transaction_isolation=serializable",
        "enable_seqscan=on",
        "idle_in_transaction_session_timeout=0",
        "lock_timeout=70000",
        "statement_timeout=77000",
    ];
    let options = options.map(|option| format!("-c%20{}", option.replace('=', "%3D")));
    let url = format!("{}?options={}", rig.flags()["postgres.url"], options.join("%20"));
    // Where there are several hosts, the settings for one are made of those of all.
    let several = url.replacen('@', "@127.0.0.1:1,", 1);
    for url in [url, several] {
        let settings = [
            ("postgres.url", url.as_str()),
            ("postgres.statement_timeout", "2s"),
            ("postgres.lock_timeout", "500ms"),
            ("orders.assignment_window", "0s"),
        ];
        rig.execute("truncate settings_seen").await;
        let server = ServerProcess::start(&rig, &settings).await;
        server.orders().create_order(a_ride()).await.unwrap();
        let expected = "default_transaction_isolation=read committed, enable_seqscan=off, idle_in_transaction_session_timeout=5s, \
                        lock_timeout=500ms, statement_timeout=2s, transaction_isolation=read committed, work_mem=7MB";
        until_eq("the settings are noted", vec![expected.to_owned()], async || {
            column::<String>(&rig.sql().await, "select seen from settings_seen", &[])
                .await
                .unwrap()
        })
        .await;
    }
}
