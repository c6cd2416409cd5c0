"""The shapes of the custom resources that no package has models of: Gateway API's HTTPRoute, External Secrets'.

Written down from the fields of their custom resource definitions (Gateway API v1.2, External Secrets v1), as far as
the chart uses them; what is not here is refused.
"""

from __future__ import annotations

from typing import Any


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_TEXT = {"type": "string"}
_DNS = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
# GEP-2257, and the rule that one attempt takes no longer than all of them.
_DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
_HEADERS = _list(_object(("name", "value"), name=_TEXT, value=_TEXT), 16)

HTTP_ROUTE = _object(
    ("parentRefs", "rules"),
    parentRefs=_list(
        _object(("name",), group=_TEXT, kind=_TEXT, namespace=_DNS, name=_DNS, sectionName=_DNS, port=_PORT),
        32,
        1,
    ),
    hostnames=_list(_DNS, 16),
    rules=_list(
        _object(
            (),
            name=_DNS,
            matches=_list(
                _object(
                    (),
                    path=_object(
                        (), type={"enum": ["Exact", "PathPrefix", "RegularExpression"]}, value=_TEXT
                    ),
                    headers={"type": "array"},
                    queryParams={"type": "array"},
                    method=_TEXT,
                ),
                64,
            ),
            filters=_list(
                _object(
                    ("type",),
                    type={
                        "enum": [
                            "RequestHeaderModifier",
                            "ResponseHeaderModifier",
                            "RequestMirror",
                            "RequestRedirect",
                            "URLRewrite",
                            "ExtensionRef",
                        ]
                    },
                    requestHeaderModifier=_object((), set=_HEADERS, add=_HEADERS, remove=_list(_TEXT, 16)),
                    responseHeaderModifier=_object((), set=_HEADERS, add=_HEADERS, remove=_list(_TEXT, 16)),
                ),
                16,
            ),
            timeouts=_object((), request=_DURATION, backendRequest=_DURATION),
            backendRefs=_list(
                _object(
                    ("name",), group=_TEXT, kind=_TEXT, name=_DNS, namespace=_DNS, port=_PORT, weight=_PORT
                ),
                16,
            ),
        ),
        16,
        1,
    ),
)
EXTERNAL_SECRET = _object(
    (),
    refreshInterval=_TEXT,
    refreshPolicy=_TEXT,
    secretStoreRef=_object((), kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=_DNS),
    target=_object(
        (),
        name=_DNS,
        creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]},
        deletionPolicy={"enum": ["Delete", "Merge", "Retain"]},
        immutable={"type": "boolean"},
        template={"type": "object"},
    ),
    data={
        "type": "array",
        "items": _object(
            ("secretKey", "remoteRef"),
            secretKey={"type": "string", "pattern": "^[-._a-zA-Z0-9]+$", "minLength": 1, "maxLength": 253},
            remoteRef=_object(
                ("key",),
                key=_TEXT,
                property=_TEXT,
                version=_TEXT,
                conversionStrategy={"enum": ["Default", "Unicode"]},
                decodingStrategy={"enum": ["Auto", "Base64", "Base64URL", "None"]},
                metadataPolicy={"enum": ["None", "Fetch"]},
            ),
        ),
    },
)
SHAPES = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HTTP_ROUTE,
    ("external-secrets.io/v1", "ExternalSecret"): EXTERNAL_SECRET,
}
