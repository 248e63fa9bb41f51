with source as (

    select * from {{ source('raw', 'app_answers') }}

),

final as (

    select
        answer_id,
        answered_at,
        request_id,
        route,
        subject,
        model_version,
        data_snapshot,
        experiment,
        arm,
        fallback,
        latency_ms,
        overlap,
        movie_keys,
        scores
    from source

)

select * from final
