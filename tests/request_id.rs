//! Promise 4: the last call's RequestId is in a condition before the finalizer goes; a log line and an Event carry it.

use crate::harness::{World, message_of};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_watchers_last_view_has_the_request_id_and_so_have_log_and_event() {
    let world = World::new().await;
    let operator = world.operator().await;
    let names = world.crowd("r", 5).await;
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    for name in &names {
        let call = world.simulator.calls_about(name, name).remove(0);
        let last = world.gone(name).await;
        assert!(message_of(&last, "RobotDeleted").ends_with(&format!("RequestId {}", call.request_id)));
        let request = last.status.as_ref().unwrap().last_request.as_ref().unwrap();
        assert_eq!(request.request_id.as_deref(), Some(call.request_id.as_str()));
        assert_eq!(
            (request.operation.as_str(), request.error_code, request.http_status),
            ("delete_robot", Some(0), Some(200))
        );
        // It stood there while the finalizer still did.
        let views = world.views(name);
        let stored =
            views.iter().find(|view| message_of(view, "RobotDeleted").contains(&call.request_id)).unwrap();
        assert_eq!(stored.metadata.finalizers.as_ref().unwrap().len(), 1);
        let event = world.announced(name, "Deleted").await;
        assert!(event.note.unwrap().contains(&call.request_id));
        assert_eq!(event.metadata.namespace.as_deref(), Some(world.namespace.as_str()));
        let log = operator.log();
        let line = log
            .lines()
            .find(|line| line.contains("\"target\":\"audit\"") && line.contains(&call.request_id))
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for (field, value) in [
            ("namespace", world.namespace.as_str()),
            ("name", name),
            ("uid", last.metadata.uid.as_deref().unwrap()),
            ("application", &world.app),
            ("room", name),
            ("robot", name),
            ("operation", "delete_robot"),
            ("verdict", "done"),
        ] {
            assert_eq!(line[field], value, "{line}");
        }
        assert_eq!(line["code"], 0);
    }
    world.announced(&world.app, "Verified").await;
    // The patch that removes a finalizer is not the first record: the status was written before it.
    for name in &names {
        let writes = world.robot_writes();
        let own: Vec<_> = writes.iter().filter(|write| &write.object_ref.name == name).collect();
        assert_eq!(own[own.len() - 2].object_ref.subresource, "status");
        assert!(own[own.len() - 2].request_object.to_string().contains("RequestId Id-"));
    }
}
