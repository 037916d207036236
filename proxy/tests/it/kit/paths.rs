//! Spellings of paths. `/admin` is refused to everybody: no spelling of it may reach the endpoint.

use std::sync::Arc;

use sekisho_config::model::{Action, Door, Filters, VirtualHost};

use super::{judge, plane};

#[tokio::test(flavor = "multi_thread")]
async fn spellings() {
    let (mut plane, recorder) = plane().await;
    let pool = plane.pool("a.test", &[recorder.address]);
    plane.route(
        "a.test",
        &[
            ("/admin", Action::Forward(pool.clone())),
            ("/", Action::Forward(pool)),
        ],
    );
    let pattern = "a.test".parse().unwrap();
    let hosts = &mut plane.cluster().hosts;
    let mut host = VirtualHost::clone(hosts.get(&pattern).unwrap());
    host.routes[0].filters = Some(Arc::new(Filters {
        door: Door {
            deny: vec!["0.0.0.0/0".parse().unwrap()],
            ..Door::default()
        },
        ..Filters::default()
    }));
    hosts.insert(pattern, Arc::new(host));
    plane.publish();
    let cases: Vec<(String, String)> = [
        // The refused path.
        ("/admin", "403+"),
        ("/admin/", "403+"),
        ("/admin/x", "403+"),
        ("/admin?x", "403+"),
        ("/admin?", "403+"),
        ("//admin", "403+"),
        ("///admin", "403+"),
        ("/./admin", "403+"),
        ("/.//./admin", "403+"),
        ("/../admin", "403+"),
        ("/../../admin", "403+"),
        ("/x/../admin", "403+"),
        ("/x/y/../../admin", "403+"),
        ("/x//../admin", "403+"),
        ("/admin/.", "403+"),
        ("/admin/x/..", "403+"),
        ("/admin/./x", "403+"),
        ("/admin//", "403+"),
        ("/admin//x", "403+"),
        ("/x/%2e%2e/admin", "403+"),
        ("/x/%2E%2E/admin", "403+"),
        ("/x/.%2e/admin", "403+"),
        ("/x/%2e./admin", "403+"),
        ("/%2e/admin", "403+"),
        ("/%61dmin", "403+"),
        ("/%61%64%6d%69%6e", "403+"),
        ("/%61%64%6D%69%6E", "403+"),
        ("/admi%6e", "403+"),
        ("/admin/%2e", "403+"),
        ("/admin/%2e%2e/admin", "403+"),
        ("http://a.test/admin", "403+"),
        ("http://a.test/x/../admin", "403+"),
        ("http://a.test//admin", "403+"),
        ("http://a.test/%61dmin", "403+"),
        // To servers that do not look at the parameters of a segment.
        ("/admin;", "403+"),
        ("/admin;x=y", "403+"),
        ("/admin;x/", "403+"),
        ("/admin;x/y", "403+"),
        ("/;x/admin", "403+"),
        ("/;/;/admin;", "403+"),
        ("/x;y/../admin;z", "403+"),
        ("/%61dmin;x", "403+"),
        // What decodes to it elsewhere.
        ("/admin%2f", "400+"),
        ("/%2fadmin", "400+"),
        ("/x%2f..%2fadmin", "400+"),
        ("/x/..%2fadmin", "400+"),
        ("/%2e%2e%2fadmin", "400+"),
        ("/admin%2Fx", "400+"),
        ("/admin%5c", "400+"),
        ("/x%5c..%5cadmin", "400+"),
        ("/x/..%5Cadmin", "400+"),
        ("\\admin", "400"),
        ("/\\admin", "400+"),
        ("/x\\..\\admin", "400+"),
        ("/admin\\x", "400+"),
        ("/admin%00", "400+"),
        ("/admin%00.html", "400+"),
        ("/%00/admin", "400+"),
        ("/adm%00in", "400+"),
        ("/%c0%af/admin", "400+"),
        ("/x/%c0%ae%c0%ae/admin", "400+"),
        ("/%c0%afadmin", "400+"),
        ("/%e0%80%afadmin", "400+"),
        ("/%e0%80%ae/admin", "400+"),
        ("/%f0%80%80%afadmin", "400+"),
        ("/%c1%9cadmin", "400+"),
        ("/%C0%80admin", "400+"),
        ("/«c0»«af»admin", "400"),
        ("/x/..;/admin", "400+"),
        ("/..;/admin", "400+"),
        ("/x/..;a=b/admin", "400+"),
        ("/x/.;/admin", "400+"),
        ("/.;a/admin", "400+"),
        ("/x/%2e%2e;/admin", "400+"),
        ("/x/..%3b/admin", "400+"),
        ("/x/..%3B/admin", "400+"),
        ("/admin/..;/", "400+"),
        ("/x/..;", "400+"),
        ("/x/.;", "400+"),
        // Broken.
        ("/%", "400+"),
        ("/%a", "400+"),
        ("/%zz", "400+"),
        ("/%%61dmin", "400+"),
        ("/%u0061dmin", "400+"),
        ("/%u002fadmin", "400+"),
        ("/% 61", "400"),
        ("/%-1", "400+"),
        ("/%+1", "400+"),
        ("/#", "400"),
        ("/admin#", "400"),
        ("/x#/../admin", "400"),
        ("/#/admin", "400"),
        ("/ admin", "400"),
        ("/\x01admin", "400"),
        ("/\x7fadmin", "400"),
        ("/\0", "400"),
        ("/a\tb", "400"),
        // What is another path, and stays it.
        ("/", "GET / "),
        ("/x", "GET /x "),
        ("/ADMIN", "GET /ADMIN "),
        ("/administrator", "GET /administrator "),
        ("/x/admin", "GET /x/admin "),
        ("/%2561dmin", "GET /%2561dmin "),
        ("/%252e%252e/admin", "GET /%252e%252e/admin "),
        ("/x/%252e%252e%252fadmin", "GET /x/%252e%252e%252fadmin "),
        ("/.../admin", "GET /.../admin "),
        ("/..x/admin", "GET /..x/admin "),
        ("/.admin", "GET /.admin "),
        ("/admin./..", "GET / "),
        ("/..%20/admin", "GET /..%20/admin "),
        ("/admin/../x", "GET /x "),
        ("/admin/%2e%2e/x", "GET /x "),
        ("/?/admin", "GET /?/admin "),
        ("/?../admin", "GET /?../admin "),
        ("/x?/../admin", "GET /x?/../admin "),
        ("/x?a?b", "GET /x?a?b "),
        ("/x;a=b", "GET /x;a=b "),
        ("/x;a/..b", "GET /x;a/..b "),
        ("/%3b", "GET /%3B "),
        ("/a%20b", "GET /a%20b "),
        ("/a+b", "GET /a+b "),
        ("/%41", "GET /A "),
        ("/%7e", "GET /~ "),
        ("/%0d%0aX:%20y", "GET /%0D%0AX:%20y "),
        ("/%c3%a9", "GET /%C3%A9 "),
        ("/%e9", "GET /%E9 "),
        ("/%3a", "GET /%3A "),
        ("/%3F", "GET /%3F "),
        ("/%23", "GET /%23 "),
        ("/x/%3f/../y", "GET /x/y "),
        ("/!$&'()*+,;=:@", "GET /!$&'()*+,;=:@ "),
        ("/x?%2f%5c%00%c0%af", "GET /x?%2f%5c%00%c0%af "),
        ("/x?%zz", "GET /x?%zz "),
        ("/x?a=//b", "GET /x?a=//b "),
        ("/x?", "GET /x? "),
        ("/x/.", "GET /x/ "),
        ("/x/..", "GET / "),
        ("/x/../..", "GET / "),
        ("/..", "GET / "),
        ("/.", "GET / "),
        ("//", "GET / "),
        ("/x//y", "GET /x/y "),
    ]
    .iter()
    .map(|(target, want)| {
        let want = match want.strip_prefix("GET ") {
            Some(target) => format!("GET {target}HTTP/1.1|host: a.test||"),
            None => (*want).to_owned(),
        };
        (format!("GET {target} HTTP/1.1|Host: a.test||"), want)
    })
    .collect();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(sent, want)| (&**sent, &**want)).collect();
    judge(&plane, &recorder, &cases).await;
}
