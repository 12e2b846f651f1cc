//! How values of `model` stand in the OpenAPI document.

use crate::model::{DeviceId, SyncPath};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

fn text(says: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(says))
}

impl PartialSchema for DeviceId {
    fn schema() -> RefOr<Schema> {
        let digits = text("A machine, by the hash of its key").pattern(Some("^[0-9a-f]{64}$"));
        RefOr::T(digits.build().into())
    }
}

impl ToSchema for DeviceId {}

impl PartialSchema for SyncPath {
    fn schema() -> RefOr<Schema> {
        let path = text("A path below the folder; what is not printable UTF-8 is \\xNN, and a backslash is doubled");
        RefOr::T(path.build().into())
    }
}

impl ToSchema for SyncPath {}
