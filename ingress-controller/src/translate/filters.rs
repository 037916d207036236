//! What the annotations of an Ingress ask to be done with requests and answers on their way.

use std::sync::Arc;

use sekisho_config::model::{
    Action, Compression, Cors, ErrorPages, Filters, FindingKind, FixedAnswer, HeaderChanges, Mirror, Origin,
    PathTemplate, Redirect, Share, Waits,
};

use super::annotations::{self, Unreadable};
use super::findings::Findings;
use super::{backends, door, named};
use crate::world::{Backend, Ingress, Kind, PathType, World};

/// The filters of all routes of an Ingress; `None` when it has none.
///
/// # Errors
/// When nothing may pass, because what is meant to bound it cannot be read.
pub(super) fn of(
    world: &World,
    ingress: &Ingress,
    findings: &mut Findings,
) -> Result<Option<Arc<Filters>>, Unreadable> {
    let door = door::of(world, ingress, findings)?;
    let error_pages = error_pages(world, ingress, findings);
    let written = &ingress.annotations;
    let mut report = |place: String, message: &str| {
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            place,
            message,
        );
    };
    let regex = annotations::USE_REGEX.of(written) == Some(true)
        && ingress
            .rules
            .iter()
            .flat_map(|rule| &rule.paths)
            .any(|path| path.path_type == PathType::ImplementationSpecific);
    for row in [&annotations::REWRITE_PATH, &annotations::REDIRECT_PATH] {
        if !regex && row.of(written).as_ref().is_some_and(PathTemplate::has_groups) {
            report(
                row.place(),
                "names groups ($1), and no path of the Ingress is a regular expression: they are empty; annotate sekisho.io/use-regex",
            );
        }
    }
    let mirror = mirror(world, ingress, &mut report);
    let filters = Filters {
        door,
        https_only: annotations::SSL_REDIRECT.of(written).unwrap_or_default(),
        answer: maintenance(ingress, &mut report),
        error_pages,
        redirect: redirect(ingress),
        cors: cors(ingress, &mut report),
        rewrite_path: annotations::REWRITE_PATH.of(written),
        rewrite_host: annotations::REWRITE_HOST
            .of(written)
            .map(|host| host.as_str().into()),
        request_headers: HeaderChanges {
            remove: annotations::REQUEST_HEADER_REMOVE.of(written).unwrap_or_default(),
            set: annotations::REQUEST_HEADER_SET.of(written).unwrap_or_default(),
            add: annotations::REQUEST_HEADER_ADD.of(written).unwrap_or_default(),
        },
        response_headers: HeaderChanges {
            remove: annotations::RESPONSE_HEADER_REMOVE
                .of(written)
                .unwrap_or_default(),
            set: annotations::RESPONSE_HEADER_SET.of(written).unwrap_or_default(),
            add: annotations::RESPONSE_HEADER_ADD.of(written).unwrap_or_default(),
        },
        waits: Waits {
            connect: annotations::CONNECT_TIMEOUT.of(written),
            response_read: annotations::RESPONSE_TIMEOUT.of(written),
        },
        max_body_bytes: annotations::MAX_BODY_BYTES.of(written),
        encoded_slash: annotations::ALLOW_ENCODED_SLASH.of(written).unwrap_or_default(),
        mirror,
        buffer_requests: annotations::BUFFER_REQUESTS.of(written),
        buffer_responses: annotations::BUFFER_RESPONSES.of(written),
        compression: Compression {
            encodings: annotations::COMPRESSION.of(written),
            min_bytes: annotations::COMPRESSION_MIN_BYTES.of(written),
            types: annotations::COMPRESSION_TYPES.of(written),
        },
    };
    Ok((!filters.is_empty()).then(|| Arc::new(filters)))
}

/// Pages that cannot be read leave the words of the box.
fn error_pages(world: &World, ingress: &Ingress, findings: &mut Findings) -> Option<Arc<ErrorPages>> {
    let row = &annotations::ERROR_PAGES;
    let content = named::content(row, world, ingress, "there are no pages", findings).ok()??;
    let (pages, faults) = content.error_pages();
    for fault in faults {
        named::unusable(
            row,
            ingress,
            &format!("ConfigMap {}: {fault}", content.name),
            findings,
        );
    }
    Some(Arc::clone(pages))
}

fn maintenance(ingress: &Ingress, report: &mut impl FnMut(String, &str)) -> Option<FixedAnswer> {
    let written = &ingress.annotations;
    let retry_after = annotations::MAINTENANCE_RETRY_AFTER.of(written);
    let except = annotations::MAINTENANCE_EXCEPT.of(written);
    let Some(answer) = annotations::MAINTENANCE.of(written) else {
        for (there, place) in [
            (
                retry_after.is_some(),
                annotations::MAINTENANCE_RETRY_AFTER.place(),
            ),
            (except.is_some(), annotations::MAINTENANCE_EXCEPT.place()),
        ] {
            if there {
                report(place, "has no effect without sekisho.io/maintenance; write one");
            }
        }
        return None;
    };
    Some(FixedAnswer {
        retry_after,
        except: except.unwrap_or_default(),
        ..answer
    })
}

/// A copy that cannot be made is a finding and takes nothing from the requests themselves.
fn mirror(world: &World, ingress: &Ingress, report: &mut impl FnMut(String, &str)) -> Option<Mirror> {
    let written = &ingress.annotations;
    let percent = annotations::MIRROR_PERCENT.of(written);
    let most = annotations::MIRROR_MAX_BODY_BYTES.of(written);
    let Some((name, port)) = annotations::MIRROR_SERVICE.of(written) else {
        for (there, place) in [
            (percent.is_some(), annotations::MIRROR_PERCENT.place()),
            (most.is_some(), annotations::MIRROR_MAX_BODY_BYTES.place()),
        ] {
            if there {
                report(place, "has no effect without sekisho.io/mirror-service; name one");
            }
        }
        return None;
    };
    let place = annotations::MIRROR_SERVICE.place();
    let backend = Backend::Service { name, port };
    match backends::resolve(world, ingress, &backend, &place, &mut Findings::default()) {
        Action::Forward(pool) => Some(Mirror {
            pool,
            percent: percent.unwrap_or(100),
            max_body_bytes: most.unwrap_or(64 * 1024),
        }),
        Action::Split(_) | Action::Unavailable(_) => {
            report(
                place,
                "nothing is mirrored: the namespace has no such Service with endpoints and this TCP port; create it or correct the name",
            );
            None
        }
    }
}

fn redirect(ingress: &Ingress) -> Option<Redirect> {
    let written = &ingress.annotations;
    let redirect = Redirect {
        status: annotations::REDIRECT_STATUS.of(written).unwrap_or(302),
        scheme: annotations::REDIRECT_SCHEME.of(written).map(Into::into),
        host: annotations::REDIRECT_HOST
            .of(written)
            .map(|host| host.as_str().into()),
        port: annotations::REDIRECT_PORT.of(written),
        path: annotations::REDIRECT_PATH.of(written),
    };
    let any = redirect.scheme.is_some()
        || redirect.host.is_some()
        || redirect.port.is_some()
        || redirect.path.is_some();
    any.then_some(redirect)
}

fn cors(ingress: &Ingress, report: &mut impl FnMut(String, &str)) -> Option<Cors> {
    let written = &ingress.annotations;
    let origins = annotations::CORS_ORIGINS.of(written);
    let credentials = annotations::CORS_CREDENTIALS.of(written).unwrap_or_default();
    let Some(origins) = origins else {
        for name in written.keys().filter(|name| name.starts_with("sekisho.io/cors-")) {
            if **name != *annotations::CORS_ORIGINS.name {
                report(
                    format!("metadata.annotations[{name}]"),
                    "has no effect without sekisho.io/cors-origins; name the origins",
                );
            }
        }
        return None;
    };
    if credentials && origins.contains(&Origin::Any) {
        report(
            annotations::CORS_CREDENTIALS.place(),
            "has no effect with the origin `*`: any page could act in the name of its visitor; name the origins",
        );
    }
    Some(Cors {
        credentials: credentials && !origins.contains(&Origin::Any),
        origins,
        methods: annotations::CORS_METHODS
            .of(written)
            .unwrap_or_else(|| vec!["PUT".into(), "PATCH".into(), "DELETE".into()]),
        headers: annotations::CORS_HEADERS.of(written).unwrap_or_default(),
        expose: annotations::CORS_EXPOSE_HEADERS.of(written).unwrap_or_default(),
        max_age: annotations::CORS_MAX_AGE.of(written),
    })
}

/// `action` with what `sekisho.io/split` gives to other Services, at the port that `backend` names.
pub(super) fn split(
    world: &World,
    ingress: &Ingress,
    backend: &Backend,
    action: Action,
    findings: &mut Findings,
) -> Action {
    let Some(wished) = annotations::SPLIT.of(&ingress.annotations) else {
        return action;
    };
    let Backend::Service { port, .. } = backend else {
        return action;
    };
    let given: u16 = wished.iter().map(|(_, percent)| *percent).sum();
    let mut shares = vec![Share {
        weight: 100u16.saturating_sub(given),
        action,
    }];
    for (name, percent) in wished {
        let other = Backend::Service {
            name,
            port: port.clone(),
        };
        let place = annotations::SPLIT.place();
        shares.push(Share {
            weight: percent,
            action: backends::resolve(world, ingress, &other, &place, findings),
        });
    }
    Action::Split(shares.into())
}
