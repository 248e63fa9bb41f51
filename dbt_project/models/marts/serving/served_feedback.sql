with answers as (

    -- What was in the shadow nobody saw, and of nobody there is nothing to be told.
    select * from {{ ref('stg_app__answers') }}
    where subject is not null and arm is distinct from 'shadow'

),

served as (

    select
        answer_id,
        answered_at,
        subject,
        route,
        model_version,
        experiment,
        arm,
        unnest(movie_keys) as movie_key,
        unnest(scores) as score,
        unnest(range(1, len(movie_keys) + 1)) as rank
    from answers

),

events as (

    select * from {{ ref('stg_app__events') }}
    where movie_key is not null and kind in ('viewed', 'clicked', 'dismissed', 'watchlisted', 'rated')

),

responses as (

    select
        served.answer_id,
        served.rank,
        bool_or(events.kind = 'clicked') as is_clicked,
        bool_or(events.kind = 'viewed') as is_viewed,
        bool_or(events.kind = 'watchlisted') as is_watchlisted,
        bool_or(events.kind = 'dismissed') as is_dismissed,
        bool_or(events.kind = 'rated') as is_rated,
        arg_max(events.rating, events.event_id) filter (where events.kind = 'rated') as rating,
        min(events.happened_at) filter (where events.kind in ('clicked', 'rated')) as first_at
    from served
    inner join
        events
        on
            served.subject = events.subject
            and served.movie_key = events.movie_key
            and served.answered_at <= events.happened_at
            and served.answered_at + interval ({{ feedback_days() }}) day > events.happened_at
    group by served.answer_id, served.rank

),

final as (

    select
        served.answer_id,
        cast(served.rank as integer) as rank,
        served.answered_at,
        served.subject,
        served.route,
        served.model_version,
        served.experiment,
        served.arm,
        served.movie_key,
        served.score,
        coalesce(responses.is_clicked, false) as is_clicked,
        coalesce(responses.is_viewed, false) as is_viewed,
        coalesce(responses.is_watchlisted, false) as is_watchlisted,
        coalesce(responses.is_dismissed, false) as is_dismissed,
        coalesce(responses.is_rated, false) as is_rated,
        cast(responses.rating as decimal(2, 1)) as rating,
        coalesce(responses.rating >= {{ liked_from() }}, false) as is_liked,
        cast(date_diff('second', served.answered_at, responses.first_at) as integer) as seconds_to_response
    from served
    left join responses on served.answer_id = responses.answer_id and served.rank = responses.rank
    order by served.answer_id, served.rank

)

select * from final
