#!/usr/bin/env python
"""Make the bucket for MLflow's artifacts unless it is there. Keys come from files, as everywhere in compose.yaml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main(bucket: str) -> None:
    secrets = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"],
                      region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
                      aws_access_key_id=(secrets / "s3_access_key").read_text().strip(),
                      aws_secret_access_key=(secrets / "s3_secret_key").read_text().strip(),
                      config=Config(s3={"addressing_style": "path"}))
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        s3.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    main(sys.argv[1])
