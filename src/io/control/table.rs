//! The requests of the API, a row each: its route, and what the OpenAPI document says of it.
//!
//! Both follow from the row and from the types of the function that answers it, so that neither can
//! say anything else. `docs/api.md` is the form for people; a test holds it to these rows.
//! Deliberately not here: which requests there are (`routes.rs`).

use super::answer::{Answer, ApiState, Ordered, Queried, Refusal};
use super::content::Named;
use super::etag;
use crate::views::status::ProblemView;
use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, ContentBuilder, HttpMethod, Info, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required,
    ResponseBuilder,
};
use utoipa::{IntoParams, ToSchema};

/// Where each request is found. The second is the older prefix, which `dirsync` uses so that it can
/// ask older daemons too.
const PREFIXES: [&str; 2] = ["/api/v1", "/v1"];
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
/// Server-sent events, as the HTML standard has them.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
const PROBLEM: &str = "application/problem+json";

const ABOUT: &str = "The API of one dirsyncd: HTTP over the Unix socket `.dirsync/control`, which needs no token, and over \
                     TCP where the daemon was started with `--http`. docs/api.md says more.";

/// A row of the table.
pub(super) struct ApiRequest {
    path: &'static str,
    method: HttpMethod,
    route: MethodRouter<ApiState>,
    operation: Operation,
    /// What the operation refers to.
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl ApiRequest {
    pub(super) fn get<T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer<T>> + Send + 'static,
    {
        Self::new::<T>(HttpMethod::Get, path, says, routing::get(handler))
    }

    /// Answered by text of a form of its own.
    pub(super) fn text<F, A>(path: &'static str, says: &str, form: &str, handler: F) -> Self
    where
        F: Fn(State<ApiState>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let content = ContentBuilder::new().schema(Some(Object::with_type(Type::String))).build();
        Self::answering(HttpMethod::Get, path, says, routing::get(handler), (form, content), Vec::new())
    }

    /// With a query.
    pub(super) fn get_by<Q, T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>, Queried<Q>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer<T>> + Send + 'static,
    {
        let mut row = Self::new::<T>(HttpMethod::Get, path, says, routing::get(handler));
        let parameters = Q::into_params(|| Some(ParameterIn::Query)).into_iter().map(RefOr::T);
        row.operation.parameters = Some(parameters.collect());
        row
    }

    /// With a query, and answered with a stream of events, each of which says a `T`.
    pub(super) fn stream_by<Q, T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: ToSchema + 'static,
        F: Fn(State<ApiState>, Queried<Q>, HeaderMap) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let mut schemas = Vec::new();
        let answer = ContentBuilder::new().schema(Some(refers_to::<T>(&mut schemas))).build();
        let answer = (EVENT_STREAM, answer);
        let mut row = Self::answering(HttpMethod::Get, path, says, routing::get(handler), answer, schemas);
        let parameters = Q::into_params(|| Some(ParameterIn::Query)).into_iter().map(RefOr::T);
        row.operation.parameters = Some(parameters.collect());
        row
    }

    pub(super) fn post<T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer<T>> + Send + 'static,
    {
        Self::new::<T>(HttpMethod::Post, path, says, routing::post(handler))
    }

    /// With a body.
    pub(super) fn post_of<B, T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>, Ordered<B>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer<T>> + Send + 'static,
    {
        Self::new::<T>(HttpMethod::Post, path, says, routing::post(handler)).with_body::<B>()
    }

    /// What has a tag of its own, and is written anew by who names it.
    pub(super) fn get_whole<T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>, HeaderMap) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        Self::new::<T>(HttpMethod::Get, path, says, routing::get(handler))
            .also(&[("304", "It is as the named tag has it"), ("412", "It is not as `If-Match` has it")])
    }

    pub(super) fn put_whole<B, T, F, A>(path: &'static str, says: &str, handler: F) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema + 'static,
        F: Fn(State<ApiState>, HeaderMap, Ordered<B>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let row = Self::new::<T>(HttpMethod::Put, path, says, routing::put(handler));
        row.with_body::<B>().also(&[("412", "It is not as `If-Match` has it"), ("507", "The disk is full")])
    }

    /// Of a content, whose path is in the address: the bytes are the answer.
    pub(super) fn get_content<Q, F, M>(path: &'static str, says: &str, handler: F) -> Self
    where
        Q: IntoParams,
        F: Handler<M, ApiState>,
        M: 'static,
    {
        let content = ContentBuilder::new().build();
        let row = Self::answering(HttpMethod::Get, path, says, routing::get(handler), (BYTES, content), Vec::new());
        let row = row.of_path(Q::into_params(|| Some(ParameterIn::Query)));
        row.also(&[
            ("206", "The part that `Range` names"),
            ("304", "It is as the named tag has it"),
            ("412", "It is not as `If-Match` has it"),
            ("416", "No byte of it is in the range"),
        ])
    }

    pub(super) fn delete_content<T, F, A, M>(path: &'static str, says: &str, handler: F) -> Self
    where
        T: Serialize + ToSchema + 'static,
        F: Handler<M, ApiState> + Fn(State<ApiState>, Named, HeaderMap) -> A,
        A: Future<Output = Answer<T>> + Send + 'static,
        M: 'static,
    {
        let row = Self::new::<T>(HttpMethod::Delete, path, says, routing::delete(handler));
        row.of_path(Vec::new()).also(&[("412", "It is not as `If-Match` has it")])
    }

    /// The body is the content, or a part of it.
    pub(super) fn put_content<Q, T, F, M>(path: &'static str, says: &str, handler: F) -> Self
    where
        Q: IntoParams,
        T: Serialize + ToSchema + 'static,
        F: Handler<M, ApiState>,
        M: 'static,
    {
        let row = Self::new::<T>(HttpMethod::Put, path, says, routing::put(handler));
        let mut row = row.of_path(Q::into_params(|| Some(ParameterIn::Query)));
        let body = RequestBodyBuilder::new().content(BYTES, ContentBuilder::new().build());
        row.operation.request_body = Some(RefOr::T(body.build()));
        row.also(&[
            ("201", "It is there, where nothing was"),
            ("202", "A part of it has come"),
            ("412", "It is not as `If-Match` or `If-None-Match` has it"),
            ("422", "What came has another hash"),
            ("507", "The disk is full"),
        ])
    }

    fn with_body<B: ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(refers_to::<B>(&mut self.schemas))).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True));
        self.operation.request_body = Some(RefOr::T(body.build()));
        self
    }

    /// Its path is in the address.
    fn of_path(mut self, others: Vec<Parameter>) -> Self {
        let named = ParameterBuilder::new().name("path").parameter_in(ParameterIn::Path).required(Required::True);
        let named = named.schema(Some(Object::with_type(Type::String))).build();
        self.operation.parameters = Some(std::iter::once(named).chain(others).map(RefOr::T).collect());
        self
    }

    /// Other codes that are no refusal, or say more than that.
    fn also(mut self, codes: &[(&str, &str)]) -> Self {
        for (code, says) in codes {
            let other = ResponseBuilder::new().description(*says).build();
            self.operation.responses.responses.insert((*code).to_owned(), RefOr::T(other));
        }
        self
    }

    /// Who asks again may name the tag of the last answer (`If-None-Match`).
    pub(super) fn tagged(mut self) -> Self {
        self.route = self.route.layer(axum::middleware::from_fn(etag::tag));
        let unchanged = ResponseBuilder::new().description("It is as the named tag has it").build();
        self.operation.responses.responses.insert("304".to_owned(), RefOr::T(unchanged));
        self
    }

    /// Also over TCP.
    pub(super) fn needs_no_token(mut self) -> Self {
        self.operation.security = Some(Vec::new());
        self
    }

    fn new<T: ToSchema>(method: HttpMethod, path: &'static str, says: &str, route: MethodRouter<ApiState>) -> Self {
        let mut schemas = Vec::new();
        let answer = ContentBuilder::new().schema(Some(refers_to::<T>(&mut schemas))).build();
        Self::answering(method, path, says, route, (JSON, answer), schemas)
    }

    fn answering(
        method: HttpMethod,
        path: &'static str,
        says: &str,
        route: MethodRouter<ApiState>,
        (form, answer): (&str, Content),
        mut schemas: Vec<(String, RefOr<Schema>)>,
    ) -> Self {
        let word = match method {
            HttpMethod::Get => "get",
            HttpMethod::Delete => "delete",
            HttpMethod::Put => "put",
            _ => "post",
        };
        let words = path.split(['/', '{', '*', '}']).filter(|word| !word.is_empty());
        let id = std::iter::once(word).chain(words).collect::<Vec<_>>().join("_");
        let answer = ResponseBuilder::new().description("The answer").content(form, answer);
        let refusal = ContentBuilder::new().schema(Some(refers_to::<ProblemView>(&mut schemas))).build();
        let refusal = ResponseBuilder::new().description("A refusal: `detail` says why").content(PROBLEM, refusal);
        let operation = OperationBuilder::new().summary(Some(says)).operation_id(Some(id));
        let operation = operation.response("200", answer).response("default", refusal).build();
        Self { path, method, route, operation, schemas }
    }
}

/// Adds what it refers to.
fn refers_to<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> Ref {
    let name = T::name().into_owned();
    let reference = Ref::from_schema_name(name.clone());
    schemas.push((name, T::schema()));
    T::schemas(schemas);
    reference
}

/// The OpenAPI document of these requests.
pub(super) fn document(requests: &[ApiRequest]) -> OpenApi {
    let mut paths = Paths::new();
    let mut components = Components::new();
    for request in requests {
        // The document has no word for a parameter of several segments.
        let path = format!("{}{}", PREFIXES[0], request.path.replace("{*", "{"));
        paths.add_path_operation(path, vec![request.method.clone()], request.operation.clone());
        components.schemas.extend(request.schemas.iter().cloned());
    }
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("key", key);
    let either = ["bearer", "key"].map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
    let mut info = Info::new("dirsyncd", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    let document = OpenApiBuilder::new().info(info).paths(paths).components(Some(components));
    document.security(Some(either)).build()
}

/// The routes of these requests, and no others.
pub(super) fn routes(requests: Vec<ApiRequest>) -> Router<ApiState> {
    let names = requests.into_iter().fold(Router::new(), |names, row| names.route(row.path, row.route));
    let names = names.method_not_allowed_fallback(async || Refusal::no_such_method());
    PREFIXES.into_iter().fold(Router::new(), |all, prefix| all.nest(prefix, names.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::http::FREE;
    use super::super::routes::{requests, routes};
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    const PAGE: &str = include_str!("../../../docs/api.md");
    /// Beside the table.
    const DESCRIPTION: &str = "/api/openapi.json";

    fn described() -> Value {
        serde_json::from_str(&document(&requests()).to_json().unwrap()).unwrap()
    }

    /// `GET /api/v1/status`, and so on.
    fn described_requests() -> BTreeSet<String> {
        let document = described();
        let paths = document["paths"].as_object().unwrap().iter();
        let all = paths.flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        all.chain([format!("GET {DESCRIPTION}")]).collect()
    }

    /// What stands in backquotes in these lines, and is a request.
    fn named<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let quoted = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_request =
            |word: &&str| ["GET /", "POST /", "PUT /", "DELETE /"].iter().any(|method| word.starts_with(method));
        quoted.filter(is_request).map(|word| word.split('?').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_page_lists_every_request_and_names_no_other() {
        let rows = named(PAGE.lines().filter(|line| line.starts_with('|')));
        assert_eq!(rows, described_requests());
        let elsewhere = named(PAGE.lines());
        assert!(elsewhere.is_subset(&rows), "{:?}", elsewhere.difference(&rows));
    }

    /// The router says its paths only to who looks at it for debugging. What answers all others is
    /// none of them.
    #[test]
    fn what_is_described_is_routed_and_nothing_else_is() {
        let router = format!("{:?}", routes());
        let is_path = |word: &&str| word.starts_with('/') && *word != "/" && !word.contains("axum_fallback");
        let routed: BTreeSet<&str> = router.split('"').skip(1).step_by(2).filter(is_path).collect();
        let document = described();
        let paths = document["paths"].as_object().unwrap().keys();
        let mut expected: BTreeSet<String> = paths
            .map(|path| path.replace('{', "{*"))
            .flat_map(|path| [path.clone(), path.replace("/api/", "/")])
            .collect();
        expected.insert(DESCRIPTION.to_owned());
        assert_eq!(routed, expected.iter().map(String::as_str).collect());
    }

    #[test]
    fn who_asks_over_tcp_is_told_what_needs_no_token() {
        let document = described();
        let operations = document["paths"].as_object().unwrap().iter();
        let free = operations.filter(|(_, methods)| methods["get"]["security"] == serde_json::json!([]));
        let free: BTreeSet<String> = free.flat_map(|(path, _)| [path.clone(), path.replace("/api/", "/")]).collect();
        let answered = FREE.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(free, answered);
        assert_eq!(document["security"], serde_json::json!([{ "bearer": [] }, { "key": [] }]));
    }

    #[test]
    fn every_field_and_parameter_is_on_the_page_and_each_reference_leads_somewhere() {
        let words: BTreeSet<&str> = PAGE.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let document = described();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let fields = schemas.values().filter_map(|schema| schema["properties"].as_object()).flat_map(|all| all.keys());
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let parameters = operations.filter_map(|operation| operation["parameters"].as_array()).flatten();
        let parameters = parameters.map(|parameter| parameter["name"].as_str().unwrap());
        let missing: BTreeSet<_> =
            fields.map(String::as_str).chain(parameters).filter(|name| !words.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let text = document.to_string();
        let references = text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
        let dead: BTreeSet<_> = references.filter(|name| !schemas.contains_key(*name)).collect();
        assert!(dead.is_empty(), "{dead:?}");
    }
}
