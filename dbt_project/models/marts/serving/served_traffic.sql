with answers as (

    select
        *,
        -- Decimals add up to the same in any order, which doubles do not.
        cast(overlap as decimal(9, 6)) as exact_overlap
    from {{ ref('stg_app__answers') }}

),

final as (

    select
        cast(answered_at as date) as day,
        route,
        model_version,
        coalesce(arm, 'none') as arm,
        cast(count(*) as integer) as answer_count,
        cast(count(distinct request_id) as integer) as request_count,
        cast(count(distinct subject) as integer) as user_count,
        cast(count(fallback) as integer) as fallback_count,
        round(count(fallback) / count(*), 6) as fallback_share,
        cast(count(*) filter (where len(movie_keys) = 0) as integer) as empty_count,
        cast(sum(len(movie_keys)) as bigint) as film_count,
        round(quantile_cont(latency_ms, 0.5), 3) as latency_p50_ms,
        round(quantile_cont(latency_ms, 0.9), 3) as latency_p90_ms,
        round(quantile_cont(latency_ms, 0.99), 3) as latency_p99_ms,
        round(sum(exact_overlap) / nullif(count(exact_overlap), 0), 6) as overlap_mean
    from answers
    group by day, route, model_version, coalesce(arm, 'none')

)

select * from final
