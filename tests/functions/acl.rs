//! Under Redis's access rules a function needs no command but those that its source is found to run.

use pmq_broker::acl::inner_commands;
use pmq_broker::functions::LIBRARY;
use pmq_tests::RedisServer;

use crate::scenario::SCENARIOS;
use crate::shard::Shard;

#[test]
fn each_function_runs_with_its_own_commands_alone() {
    for scenario in SCENARIOS {
        let shard = Shard::new();
        let call = (scenario.prepare)(&shard);
        let user = format!("only-{}", scenario.verb);
        let mut rules: Vec<String> = ["SETUSER", &user, "reset", "on", ">pw", "~*", "&*"]
            .map(str::to_owned)
            .into();
        rules.push(format!("+fcall|{LIBRARY}_{}", scenario.verb));
        rules.extend(
            inner_commands(scenario.verb)
                .iter()
                .map(|command| format!("+{command}")),
        );
        shard.redis("ACL", &rules);
        shard.log_in(&user, "pw");
        shard.call(&call);
        shard.reconnect(RedisServer::shared());
    }
}
